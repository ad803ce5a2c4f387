"""How every candidate is called: `python NAME.py COMMAND words`; prints the settings that it made of the words."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from alice3d.commands import COMMANDS, find_command
from alice3d.errors import UserError


def main(parse: Callable[..., Any]) -> None:
    """Print the settings as JSON, with `JSON`: whether --json was given; or the help; or one line on standard error.

    Args:
        parse: from command, what it gives, its settings and the words to (settings, --json given) or the help.
    """
    command, *words = sys.argv[1:]
    try:
        found = parse(command, COMMANDS[command], find_command(command)[1], words)
    except UserError as error:
        print(f"alice: {error}", file=sys.stderr)
        sys.exit(2)
    if isinstance(found, str):
        print(found)
        return
    config, as_json = found
    print(json.dumps({**config.model_dump(mode="json"), "JSON": as_json}))
