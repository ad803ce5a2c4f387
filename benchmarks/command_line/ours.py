"""The program's own parser."""

from __future__ import annotations

from typing import Any

from trial import main

from alice3d import options


def parse(command: str, what: str, kind: Any, words: list[str]) -> Any:
    """As `alice` does."""
    call = options.parse(command, what, kind, words)
    return call if isinstance(call, str) else (call.config, call.json)


if __name__ == "__main__":
    main(parse)
