"""The command line: `alice COMMAND`, its options made from the command's settings."""

from __future__ import annotations

import difflib
import errno
import importlib
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alice3d import console
from alice3d.errors import UserError, WorkFailed
from alice3d.version import __version__

if TYPE_CHECKING:
    from alice3d.cli_arguments import Call

COMMANDS = {
    "demo": "the whole road at small scale, ending in a report to open",
    "prepare": "scans into a store: read, check, reorient, resample, crop",
    "inspect": "what a store holds, what is odd in it, every case on one page",
    "train-matcher": "learn to find the same anatomy in another scan",
    "match": "find a point of one scan in another",
    "view": "two scans side by side: a click in one finds the place in the other",
    "landmarks": "find landmarks in many scans from one example",
    "propagate": "carry the labels of a few scans onto others",
    "calibrate-matcher": "teach a matcher from landmarks to foretell its errors",
    "evaluate-matcher": "landmark errors of a matcher, in mm",
    "pair": "match points between patients into a table",
    "pretrain": "learn an encoder without labels: Alice or a rival",
    "probe": "what an encoder's frozen features know: linear, nearest neighbours, landmarks",
    "compare": "pre-trainings under equal conditions: table, paired tests, plot",
    "finetune": "learn a segmenter or a classifier from few labels",
    "predict": "segment scans, each in its own grid, or score their classes",
    "evaluate": "score a model on a split of a store",
}
"""Command to what it gives, in the order of the road. `demo` lives in `commands/demo.py`, and so on."""

HELP = """usage: alice COMMAND [options]

Learn anatomy from unlabelled 3D scans; segment and classify with few labels.

{commands}

`alice COMMAND --help` lists a command's options. Every command takes --config FILE.yaml, --json and --debug.
Start with `alice demo`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 done, 1 the work failed, 2 the call or the input was wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(HELP.format(commands="\n".join(f"  {name:{width}}  {what}" for name, what in COMMANDS.items())))
        return 0
    if words[0] == "--version":
        print(f"alice3d {__version__}")
        return 0
    debug = "--debug" in words
    try:
        return _run(words[0], words[1:])
    except UserError as error:
        return _fail(str(error), 2, debug)
    except WorkFailed as error:
        return _fail(str(error), 1, debug)
    except KeyboardInterrupt:
        return _fail("stopped by the user; the same command goes on where it can", 130, debug)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        return _fail(f"internal error: {_place_of(error)}; run it again with --debug to see why, and tell us", 1, debug)


def _place_of(error: Exception) -> str:
    """Type of an error and the last place of this package that it came through; its words may hold a patient's name."""
    package = Path(__file__).parent
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if package in Path(frame.filename).parents]
    place = f" in {Path(frames[-1].filename).relative_to(package)}, line {frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        raise
    print(f"alice: {message}", file=sys.stderr)
    return code


def _run(name: str, words: list[str]) -> int:
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(COMMANDS)}"
        raise UserError(f"no command {name!r}; {hint}")
    from alice3d.cli_arguments import parse

    module = importlib.import_module(f"alice3d.commands.{name.replace('-', '_')}")
    kind = getattr(module, "".join(part.capitalize() for part in name.split("-")) + "Config")
    call: Call | str = parse(name, COMMANDS[name], kind, words)
    if isinstance(call, str):
        print(call)
        return 0
    console.configure(json_only=call.json)
    try:
        result: dict[str, Any] = module.run(call.config)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise WorkFailed("the disk is full; make room and give the same command again") from error
    finally:
        console.configure(json_only=False)
    if call.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
