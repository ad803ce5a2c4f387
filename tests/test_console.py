"""Messages that nobody can read never stop the work."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alice3d import cli, console

CALL = """
import sys
from types import SimpleNamespace
from pathlib import Path
from alice3d import cli, console
from alice3d.config import CommandConfig

def run(config):
    console.say("αβγ 日本 é: said")
    console.warn("αβγ: warned")
    with console.progress("Läuft", 3) as bar:
        bar.shown -= 100
        bar.advance(note="ß日")
    open("made", "w").write("work")
    return {"name": "日本"}

cli.COMMANDS["toy"] = "plays"
cli.find_command = lambda name: (SimpleNamespace(run=run), CommandConfig)
sys.exit(cli.main(sys.argv[1:]))
"""


def call(tmp_path: Path, shell: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    line = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-c", CALL, "toy", *words]
    done = subprocess.run(
        line, cwd=tmp_path, capture_output=True, text=True, errors="replace", env={**os.environ, **environment}
    )
    assert (tmp_path / "made").read_text() == "work"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@pytest.mark.parametrize("shell", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full"])
def test_closed_and_full_streams(tmp_path: Path, shell: str) -> None:
    if "/dev/full" in shell and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    assert call(tmp_path, shell).returncode == 0


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    line = ["sh", "-c", '"$@" 2>&1 | true', "sh", sys.executable, "-c", CALL, "toy"]
    subprocess.run(line, cwd=tmp_path, check=True)
    assert (tmp_path / "made").read_text() == "work"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "ascii:strict"])
def test_a_narrow_code_page(tmp_path: Path, encoding: str) -> None:
    done = call(tmp_path, "", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0
    assert "said" in done.stdout
    assert "warned" in done.stderr


def test_json_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = call(tmp_path, ">/dev/full", "--json")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("alice: the work is done, but its JSON cannot be written")
    assert json.loads(call(tmp_path, "", "--json").stdout) == {"name": "日本"}


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = "from alice3d import console; console.open_streams(); open('n', 'w').write(str(open('made', 'w').fileno()))"
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert int((tmp_path / "n").read_text()) > 2


@pytest.mark.parametrize("stream", [None, "closed", "broken"])
def test_a_host_program_without_a_console(monkeypatch: pytest.MonkeyPatch, stream: str | None) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    given: Any = None if stream is None else Broken()
    if stream == "closed":
        given.close()
    monkeypatch.setattr(sys, "stderr", given)
    console.warn("nobody reads this")
    with console.progress("Counting", 1) as bar:
        bar.advance()


def test_the_version_into_a_closed_pipe_is_no_error() -> None:
    assert cli.main(["--version"]) == 0
