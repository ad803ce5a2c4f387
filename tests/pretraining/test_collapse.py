"""A collapse is caught and said in one line, and a healthy run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_processes import SMALL

from alice3d.commands.pretrain import run
from alice3d.engine.checkpoint import load_checkpoint
from alice3d.engine.log import read_log
from alice3d.errors import WorkFailed
from alice3d.methods.alice import Alice
from alice3d.nn.backbones.registry import build_backbone
from alice3d.pretraining.collapse import LOOKS, STEPS, CollapseGuard
from alice3d.pretraining.settings import PretrainConfig

HEALTHY = {
    "patch_target_entropy": 5.3,
    "patch_marginal_entropy": 6.2,
    "feature_deviation": 0.8,
    "feature_rank": 85.0,
}


def verdicts(entry: dict[str, float], steps: int, guard: CollapseGuard) -> list[str]:
    return [guard(step + 1, entry) for step in range(steps)]


def test_a_healthy_run_goes_on() -> None:
    assert set(verdicts(HEALTHY, 10 * STEPS, CollapseGuard(1000))) == {""}


@pytest.mark.parametrize("entropy", [0.01, np.log(512)])
def test_answers_that_tell_nothing_stop_the_run(entropy: float) -> None:
    """One prototype for all tokens, or uniform answers."""
    entry = {**HEALTHY, "patch_target_entropy": entropy, "patch_marginal_entropy": entropy + 0.01}
    said = verdicts(entry, STEPS, CollapseGuard(1000, advice=Alice.advice))
    assert set(said[:-1]) == {""}
    assert "all patch tokens get the same answer" in said[-1]
    assert "--options.balance" in said[-1]
    assert "\n" not in said[-1]
    assert set(verdicts(entry, STEPS, CollapseGuard(100_000))) == {""}  # a long run is given longer
    assert set(verdicts(entry, 2 * STEPS, CollapseGuard(1000, idle=frozenset({"patch"})))) == {""}


@pytest.mark.parametrize(("name", "value"), [("feature_deviation", 0.001), ("feature_rank", 1.2)])
def test_features_that_collapse_stop_the_run(name: str, value: float) -> None:
    said = verdicts({name: value}, LOOKS, CollapseGuard(1000))
    assert said[:-1] == ["", ""]
    assert "the run has collapsed: " in said[-1]


def test_a_single_bad_look_is_forgiven() -> None:
    guard = CollapseGuard(1000)
    for step in range(30):
        assert guard(step, {"feature_rank": 1.0 if step % LOOKS else 50.0}) == ""


def test_warn_says_it_once_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(verdicts({"feature_rank": 1.0}, 20, CollapseGuard(1000, "warn"))) == {""}
    assert capsys.readouterr().err.count("the run has collapsed") == 1
    assert set(verdicts({"feature_rank": 1.0}, 20, CollapseGuard(1000, "ignore"))) == {""}
    assert capsys.readouterr().err == ""


def test_heads_without_a_loss_are_idle() -> None:
    backbone = build_backbone("resunet", 1, {"widths": [4, 6, 8, 12], "blocks": [1, 1, 1]})

    def idle(**options: Any) -> frozenset[str]:
        return Alice(backbone, Alice.Config(casa_heads=4, **options), crop=16, total_steps=1).idle_heads

    assert idle(patch_weight=0) >= {"patch"}
    assert not {"patch", "class"} & idle()


class DeadAlice(Alice):
    """All tokens become one."""

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        super().after_step(step)
        for weight in self.backbone.parameters():
            weight.mul_(0.05)


def test_a_made_collapse_stops_with_a_checkpoint_and_goes_on_when_told(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("alice3d.pretraining.job.find_method", lambda name: DeadAlice)
    options: dict[str, Any] = {**SMALL, "monitor_every": 2, "steps": 14}
    config = PretrainConfig.checked({"store": tiny_store, "out": tmp_path / "run", **options}, "test")
    with pytest.raises(WorkFailed, match=r"step \d+: the run has collapsed: .*; a checkpoint of this step is kept"):
        run(config)
    kept = load_checkpoint(tmp_path / "run" / "checkpoints")
    assert kept is not None
    assert kept["step"] == len(read_log(tmp_path / "run" / "log.jsonl")) < 14
    assert (tmp_path / "run" / "curves.html").is_file()
    assert run(config.model_copy(update={"on_collapse": "warn"}))["steps"] == 14
    assert "the run has collapsed" in capsys.readouterr().err
