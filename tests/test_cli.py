"""The command line: options from settings, one clear line for every wrong call, help, YAML."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal, get_origin

import pytest
from pydantic import Field

from alice3d import cli, console
from alice3d.cli_arguments import Call, parse
from alice3d.commands import find_command
from alice3d.config import CommandConfig, Config, Keys, keys_of
from alice3d.errors import UserError, WorkFailed


class ToyOptions(Config):
    """What `--options` of the toy command takes."""

    a: float = 0.0
    b: list[str] | None = None
    c: int = 0
    window: str = ""


class ToyConfig(CommandConfig):
    """A command for the tests."""

    positional: ClassVar[tuple[str, ...]] = ("model", "scans", "out")
    model: str
    """Which model."""
    scans: list[Path]
    """Scans to read."""
    out: Path
    """Where to write."""
    rate: Annotated[float, Field(gt=0)] = 1e-3
    """How fast."""
    window_mm: tuple[float, float] = (1.0, 2.0)
    """Two numbers in mm."""
    mode: Literal["fast", "slow"] = "fast"
    """How."""
    mirror: bool = False
    """Whether to mirror."""
    tidy: bool = True
    """Whether to tidy."""
    options: Annotated[dict[str, Any], Keys(lambda values: ToyOptions)] = Field(default_factory=dict)
    """More."""


def toy(line: str) -> ToyConfig:
    call = parse("toy", "plays", ToyConfig, line.split())
    assert isinstance(call, Call)
    assert isinstance(call.config, ToyConfig)
    return call.config


def test_words_become_settings() -> None:
    config = toy(
        "m a.nii b.nii out --rate 3e-4 --window-mm 4,5.5 --mode=slow --mirror --no-tidy --options.a 2 --options.b x,y"
    )
    assert (config.model, config.scans, config.out) == ("m", [Path("a.nii"), Path("b.nii")], Path("out"))
    assert (config.rate, config.window_mm, config.mode) == (3e-4, (4.0, 5.5), "slow")
    assert (config.mirror, config.tidy, config.options) == (True, False, {"a": 2, "b": ["x", "y"]})


def test_underscores_and_negative_numbers_are_taken() -> None:
    assert toy("m s o --window_mm -4,5").window_mm == (-4.0, 5.0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("m s o --raet 1", "no option --raet; did you mean '--rate'"),
        ("m s o --rate", "--rate needs a value"),
        ("m s o --rate fast", "rate: .*valid number.*'fast'"),
        ("m s o --rate -1", "rate: .*greater than 0.*'-1'"),
        ("m s o --mode medium", "mode: .*'fast' or 'slow'.*'medium'"),
        ("m s o --window-mm 1,2,3", "window_mm"),
        ("m s o --window-mm 1", "window_mm: 2 values are needed, got '1'"),
        ("m s", "too few arguments; usage: alice toy MODEL SCANS... OUT"),
        ("", "MODEL, SCANS, OUT missing"),
        ("m s o --options 3", "give --options.KEY VALUE"),
        ("m s o --rate.x 3", "no part 'x'"),
        ("m s o -r 3", "no option '-r'"),
    ],
)
def test_wrong_calls_get_one_clear_line(line: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        toy(line)
    assert "\n" not in str(caught.value)


def test_yaml_gives_settings_and_the_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text("model: m\nscans: [s]\nout: o\nrate: 3e-4\nwindow-mm: [1, 3]\noptions: {a: 1e-2, c: 2}\n")
    config = toy(f"--config {file} --rate 0.5 --options.c 7")
    assert (config.rate, config.window_mm, config.options) == (0.5, (1.0, 3.0), {"a": 0.01, "c": 7})


@pytest.mark.parametrize(
    ("text", "message"),
    [("raet: 1", "no setting 'raet'; did you mean 'rate'"), ("a: [1", "not YAML"), ("- 1", "mapping of settings")],
)
def test_wrong_yaml_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"bad.yaml.*{message}"):
        toy(f"m s o --config {file}")
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read"):
        toy("m s o --config none.yaml")


def test_a_word_is_read_by_the_type_of_its_field(tmp_path: Path) -> None:
    assert toy("m s o --options.window -160:40").options == {"window": "-160:40"}  # no number to the base of 60
    assert toy("m s o --options.window -200:300,-1000:1000").options == {"window": "-200:300,-1000:1000"}
    assert toy("m s o --options.window 007").options == {"window": "007"}
    assert toy("m s o --options.a 3e-4 --options.c 4 --options.b x").options == {"a": 3e-4, "c": 4, "b": ["x"]}
    assert toy("m s o --options.b null").options == {"b": None}
    assert toy("m s o --options.c many --options.d 4").options == {"c": "many", "d": "4"}  # whoever checks refuses them
    file = tmp_path / "toy.yaml"
    file.write_text(
        "model: 007\nscans: [1:30, 2]\nout: off\nmirror: true\noptions: {window: -160:40, a: 3e-4, b: [1]}\n"
    )
    config = toy(f"--config {file}")
    assert (config.model, config.scans, config.out) == ("007", [Path("1:30"), Path("2")], Path("off"))
    assert (config.mirror, config.options) == (True, {"window": "-160:40", "a": 3e-4, "b": ["1"]})


def settings_of(command: str) -> type[CommandConfig]:
    return find_command(command)[1]


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_group_says_what_types_its_keys(command: str) -> None:
    for name, field in settings_of(command).model_fields.items():
        if get_origin(field.annotation) is dict:
            assert keys_of(field) is not None, f"alice {command} --{name}"


def test_groups_are_read_by_what_checks_them() -> None:
    def given(command: str, line: str) -> Any:
        call = parse(command, "", settings_of(command), ["store", "out", *line.split()])
        assert isinstance(call, Call)
        return call.config

    pretrain = given(
        "pretrain", "--options.dense_weight 0 --options.teacher_temperature 0.04,7e-2 --options.casa false"
    )
    assert pretrain.options == {"dense_weight": 0.0, "teacher_temperature": [0.04, 0.07], "casa": False}
    assert given("pretrain", "--method mae --options.normalised no").options == {"normalised": False}
    assert given("train-matcher", "--options.fine_width 8").options == {"fine_width": 8}
    swin = given("finetune", "--backbone swin --backbone-options.depths 2 --backbone-options.heads 2,4")
    assert swin.backbone_options == {"depths": 2, "heads": [2, 4]}
    unet = given("pretrain", "--backbone-options.widths 4 --backbone-options.checkpoint true").backbone_options
    assert unet == {"widths": [4], "checkpoint": True}
    line = "--pretrain.windows -160:40,-200:300 --pretrain.steps 7 --finetune.mirror true --linear.ridge 1e-4"
    compare = given("compare", line)
    assert compare.pretrain == {"windows": "-160:40,-200:300", "steps": 7}
    assert (compare.finetune, compare.linear) == ({"mirror": True}, {"ridge": 1e-4})


def test_weights_to_start_from_say_which_network_types_its_options(tmp_path: Path) -> None:
    from alice3d.engine.settings import backbone_types

    with pytest.raises(UserError, match="no encoder"):
        backbone_types({"backbone": "resunet", "init": tmp_path})
    assert "registers" not in backbone_types({"backbone": "resunet", "init": None})
    assert backbone_types({"backbone": "vit", "init": None})["registers"] is int
    shipped = backbone_types({"backbone": "vit", "init": "headneck-ct"})  # a residual U-Net
    assert "widths" in shipped
    assert "registers" not in shipped


def test_help_lists_every_setting_with_its_default() -> None:
    text = parse("toy", "plays", ToyConfig, ["--help"])
    assert isinstance(text, str)
    for word in (
        "MODEL SCANS... OUT",
        "--rate X",
        "How fast. [0.001]",
        "--mirror",
        "--tidy / --no-tidy              Whether to tidy. [on]",
        "--window-mm",
        "fast|slow",
    ):
        assert word in text


def fake(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    monkeypatch.setitem(cli.COMMANDS, "toy", "plays")
    monkeypatch.setattr(cli, "find_command", lambda name: (SimpleNamespace(run=run), ToyConfig))


def test_json_alone_on_standard_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(config: ToyConfig) -> dict[str, Any]:
        console.say("written")
        return {"rate": config.rate}

    fake(monkeypatch, run)
    assert cli.main(["toy", "m", "s", "o", "--rate", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"rate": 2.0}
    assert err == "written\n"
    assert cli.main(["toy", "m", "s", "o"]) == 0
    assert capsys.readouterr() == ("written\n", "")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("bad scan"), 2, "bad scan"),
        (WorkFailed("no luck"), 1, "no luck"),
        (ValueError("DOE^JANE"), 1, "internal error: ValueError in cli.py, line "),
    ],
)
def test_errors_are_one_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int, words: str
) -> None:
    def run(config: ToyConfig) -> dict[str, Any]:
        raise error

    fake(monkeypatch, run)
    assert cli.main(["toy", "m", "s", "o"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "DOE^JANE" not in err
    assert err.count("\n") == 1
    with pytest.raises(type(error)):
        cli.main(["toy", "m", "s", "o", "--debug"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_internal_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def run(config: ToyConfig) -> dict[str, Any]:
        raise OSError(number, os.strerror(number))

    fake(monkeypatch, run)
    assert cli.main(["toy", "m", "s", "o"]) == 1
    assert capsys.readouterr().err == "alice: the disk is full; make room and give the same command again\n"


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pretrian", "a"]) == 2
    assert capsys.readouterr().err == "alice: no command 'pretrian'; did you mean 'pretrain'?\n"


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"usage: alice {command}" in capsys.readouterr().out


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from alice3d import cli; cli.main(['--help']); cli.main(['pretrain', '--help']);"
        "heavy = {'torch', 'numpy', 'scipy', 'nibabel', 'matplotlib', 'blosc2'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
