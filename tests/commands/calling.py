"""Call the command line from a test."""

from __future__ import annotations

import json

from alice3d.cli import main


def call(capsys, *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def result(capsys, *words: object) -> dict:
    """What `--json` prints of a call that succeeds."""
    code, out, err = call(capsys, *words, "--json", "--threads", "1")
    assert code == 0, err
    return json.loads(out)
