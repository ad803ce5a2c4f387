"""A renamed setting is taken under its old name for one version: on the line, in files, in runs begun before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alice3d import config, outputs
from alice3d.cli_arguments import Call, parse
from alice3d.commands.pretrain import PretrainConfig
from alice3d.commands.train_matcher import TrainMatcherConfig
from alice3d.comparison.settings import CompareConfig
from alice3d.errors import UserError


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_told", set())


def ratio(*words: str) -> float:
    call = parse("pretrain", "", PretrainConfig, ["store", "out", *words])
    assert isinstance(call, Call)
    assert isinstance(call.config, PretrainConfig)
    return call.config.mask_ratio


def test_the_line_and_a_file_take_both_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ratio("--mask-ratio", "0.6") == 0.6
    assert capsys.readouterr().err == ""
    assert ratio("--hidden-share", "0.5") == 0.5
    said = capsys.readouterr().err
    assert "hidden_share is now called mask_ratio" in said
    assert said.count("\n") == 1
    (tmp_path / "old.yaml").write_text("hidden_share: 0.4\n")
    assert ratio("--config", str(tmp_path / "old.yaml")) == 0.4
    assert capsys.readouterr().err == ""  # said once


def test_the_line_takes_an_old_name_that_is_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("--no-trunk", "--no-backbone-maps"):
        call = parse("train-matcher", "", TrainMatcherConfig, ["store", "out", word])
        assert isinstance(call, Call)
        assert isinstance(call.config, TrainMatcherConfig)
        assert not call.config.backbone_maps
    assert "trunk is now called backbone_maps" in capsys.readouterr().err


def test_groups_of_a_comparison_take_the_old_name() -> None:
    made = CompareConfig.checked({"store": "s", "out": "o", "pretrain": {"hidden_share": "0.5"}}, "compare")
    assert made.pretrain == {"mask_ratio": 0.5}


def test_a_run_begun_before_goes_on(tmp_path: Path) -> None:
    settings = {"mask_ratio": 0.75, "steps": 3, "finetune": {"ema_decay": 0.9, "seed": 1}}
    outputs.begin(tmp_path / "run", "encoder", settings, state="new")
    marker = json.loads((tmp_path / "run" / "status.json").read_text())
    marker["settings"] = {"hidden_share": 0.75, "steps": 3, "finetune": {"average": 0.9, "seed": 1}}
    (tmp_path / "run" / "status.json").write_text(json.dumps(marker))
    assert outputs.check(tmp_path / "run", "encoder", settings, overwrite=False) == "started"
    with pytest.raises(UserError, match=r"finetune\.seed 1, this call has 2"):
        outputs.check(
            tmp_path / "run",
            "encoder",
            {**settings, "finetune": {"ema_decay": 0.9, "new": None, "seed": 2}},
            overwrite=False,
        )
