"""The command line: `alice COMMAND`, its options made from the command's settings."""

from __future__ import annotations

import difflib
import errno
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alice3d import console
from alice3d.commands import COMMANDS, find_command
from alice3d.errors import UserError, WorkFailed
from alice3d.files import json_text
from alice3d.memory import lacks_memory
from alice3d.version import __version__

if TYPE_CHECKING:
    from alice3d.cli_arguments import Call

HELP = """usage: alice COMMAND [options]

Learn anatomy from unlabelled 3D scans; segment and classify with few labels.

{commands}

`alice COMMAND --help` lists a command's options. Every command takes --config FILE.yaml, --json and --debug.
Start with `alice demo`."""
HELP_TEXTS = Path(__file__).parent / "commands" / "help"
"""Each command's help, as `cli_arguments.describe` makes it; written by docs/reference/generate.py."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 done, 1 the work failed, 2 the call or the input was wrong."""
    console.open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        console.write(HELP.format(commands="\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())))
        return 0
    if words[0] == "--version":
        console.write(f"alice3d {__version__}")
        return 0
    debug = "--debug" in words
    try:
        return _run(words[0], words[1:])
    except UserError as error:
        return _fail(str(error), 2, debug)
    except WorkFailed as error:
        return _fail(str(error), 1, debug)
    except KeyboardInterrupt as error:
        return _fail(str(error) or "stopped by the user; the same command goes on where it can", 130, debug)
    except Exception as error:
        return _fail(_unexpected(error), 1, debug)


def _unexpected(error: Exception) -> str:
    """An error that nobody foresaw: its type and place alone, since its words may hold a patient's name."""
    if lacks_memory(error):
        return "memory does not suffice; take a smaller --batch, --crop or number of --jobs where there is one"
    plugins = sys.modules.get("alice3d.plugins")  # importing it takes long; without it no code of the user's ran
    own = plugins.place_in_own_code(error) if plugins is not None else ""
    if own:
        return f"{type(error).__name__} {own}; run it again with --debug to see why"
    return f"internal error: {_place_of(error)}; run it again with --debug to see why, and tell us"


def _place_of(error: Exception) -> str:
    """Type of an error and the last place of this package that it came through."""
    package = Path(__file__).parent
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if package in Path(frame.filename).parents]
    place = f" in {Path(frames[-1].filename).relative_to(package)}, line {frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        raise
    console.write(f"alice: {message}", "stderr")
    return code


def _run(name: str, words: list[str]) -> int:
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(COMMANDS)}"
        raise UserError(f"no command {name!r}; {hint}")
    kept = HELP_TEXTS / f"{name}.txt"
    if words in (["--help"], ["-h"]) and kept.is_file():  # settings take longer to import than to read what they say
        console.write(kept.read_text(encoding="utf-8"), end="")
        return 0
    from alice3d.apart import check_apart
    from alice3d.cli_arguments import parse
    from alice3d.locks import name_command

    module, kind = find_command(name)
    call: Call | str = parse(name, COMMANDS[name], kind, words)
    if isinstance(call, str):
        console.write(call)
        return 0
    name_command(name)
    check_apart(call.config)
    console.configure(json_only=call.json)
    try:
        result: dict[str, Any] = module.run(call.config)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise WorkFailed("the disk is full; make room and give the same command again") from error
    finally:
        console.configure(json_only=False)
    if call.json and (lost := console.write(json_text(result, None))) is not None:
        reason = getattr(lost, "strerror", None) or "it is closed"
        raise WorkFailed(f"the work is done, but its JSON cannot be written to standard output ({reason})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
