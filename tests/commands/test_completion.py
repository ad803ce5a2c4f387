"""What the shell offers: the script for bash runs in bash itself."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from calling import call

from alice3d.cli_arguments import choices, dashed
from alice3d.commands import COMMANDS, find_command


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from alice3d.commands.completion import bash, options_of

    path = tmp_path_factory.mktemp("completion") / "alice"
    path.write_text(bash({name: options_of(name) for name in COMMANDS}))
    return path


def offered(script: Path, line: str) -> list[str]:
    """What bash offers at the end of a line; it splits words at `=`."""
    words = re.sub("=(?=.)", " = ", line).replace("= ", "= ").split(" ")
    words = [part for word in words for part in ([word[:-1], "="] if word.endswith("=") and word != "=" else [word])]
    code = f"""
        set -u
        source {shlex.quote(str(script))}
        COMP_WORDS=({" ".join(shlex.quote(word) for word in words)}) COMP_CWORD={len(words) - 1} COMPREPLY=()
        _alice
        echo "${{COMPREPLY[@]}}"
        complete -p alice >&2
    """
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True)
    assert "-o default -F _alice alice" in done.stderr  # files, where nothing is offered
    return done.stdout.split()


def test_commands_are_completed(script: Path) -> None:
    assert offered(script, "alice ") == [*COMMANDS, "--help", "--version"]
    assert offered(script, "alice pre") == ["prepare", "pretrain", "predict"]


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_option_of_every_command_is_offered(script: Path, command: str) -> None:
    kind = find_command(command)[1]
    words = offered(script, f"alice {command} --")
    for name, field in kind.model_fields.items():
        if name not in kind.positional:
            assert {f"--{dashed(name)}", f"--{dashed(name)}."} & set(words), name
            known = list(choices(field.annotation))
            assert not known or offered(script, f"alice {command} x --{dashed(name)} ") == known
    assert {"--config", "--json", "--help"} <= set(words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("alice prepare scans store --mod", ["--modality"]),
        ("alice prepare --modality c", ["ct"]),
        ("alice prepare --modality=", ["auto", "ct", "mr"]),
        ("alice prepare --modality=m", ["mr"]),
        ("alice pretrain s o --on_collapse ", ["stop", "warn", "ignore"]),
        ("alice pretrain s o --no-mask", ["--no-mask-regions"]),
        ("alice pretrain s o --opt", ["--options."]),
        ("alice pretrain s o --config al", ["alice", "alice-paper"]),
        ("alice completion ", ["bash", "zsh", "fish"]),
        ("alice prepare sc", []),
        ("alice prepare scans store --labels ", []),
        ("alice nothing --", []),
    ],
)
def test_what_bash_offers(script: Path, line: str, words: list[str]) -> None:
    assert offered(script, line) == words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_is_printed_and_names_all(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    code, out, err = call(capsys, "completion", shell)
    assert (code, err) == (0, "")
    for name in COMMANDS:
        assert name in out
    assert "on-collapse" in out
    assert "stop warn ignore" in out
    assert not re.search("@[A-Z]+@", out)
    assert out.count("'") % 2 == 0


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "completion", "tcsh")
    assert (code, out) == (2, "")
    assert "'bash', 'zsh' or 'fish'" in err
