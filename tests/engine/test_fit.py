"""The loop: it learns, logs every step, goes on exactly after a kill, and stops clearly on what is not finite."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alice3d.engine.checkpoint import checkpoints, has_checkpoint, load_checkpoint, save_checkpoint
from alice3d.engine.fit import fit
from alice3d.engine.loader import batches
from alice3d.engine.log import Log, final_loss, read_log, speed
from alice3d.engine.optim import build_optimiser, learning_rate
from alice3d.engine.settings import LoopSettings, TrainingConfig
from alice3d.engine.signals import stop_requests
from alice3d.errors import UserError, WorkFailed
from alice3d.nn.ema import target_of, update_ema

CPU = torch.device("cpu")


class Lines:
    """Points on a line with noise, a pure function of the index."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([5, index])
        x = rng.normal(size=4).astype(np.float32)
        return {"x": x, "y": np.float32(x.sum() + 1 + 0.01 * rng.normal())}


class Regression(nn.Module):
    """A linear model with an average and dropout, so that target state and random state must be resumed too."""

    def __init__(self, poison: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 1))
        self.average = target_of(self.net)
        self.poison = poison

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        loss = (self.net(batch["x"])[:, 0] - batch["y"]).square().mean()
        if step == self.poison:
            loss = loss * float("nan")
        return {"loss": loss, "part": loss.detach()}

    def param_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.net[0].parameters()), "lr_scale": 0.5}, {"params": list(self.net[2].parameters())}]

    def after_step(self, step: int) -> None:
        update_ema(self.average, self.net, 0.9)


def settings(out: Path, **changes: Any) -> TrainingConfig:
    usual = {"out": out, "steps": 40, "batch": 4, "learning_rate": 0.05, "checkpoint_every": 10, "workers": 2}
    return TrainingConfig(**{**usual, **changes})


def run(out: Path, **changes: Any) -> Regression:
    method = Regression(poison=changes.pop("poison", None))
    fit(method, Lines(), settings(out, **changes), device=CPU, claim=lambda: None)
    return method


def test_it_learns_and_logs_every_step(tmp_path: Path) -> None:
    method = Regression()
    result = fit(method, Lines(), settings(tmp_path, steps=150), device=CPU, claim=lambda: None)
    log = read_log(tmp_path / "log.jsonl")
    assert [entry["step"] for entry in log] == list(range(150))
    assert {"loss", "part", "learning_rate", "gradient_norm", "data_wait_s", "step_s", "samples_per_s"} <= set(log[0])
    assert result.loss < log[0]["loss"] / 3
    assert result.loss == pytest.approx(np.mean([entry["loss"] for entry in log[-15:]]), rel=1e-4)


def test_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(WorkFailed):
        run(tmp_path / "cut", poison=27)  # dies after the checkpoint of step 20
    resumed = run(tmp_path / "cut")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    first, second = (read_log(tmp_path / name / "log.jsonl") for name in ("whole", "cut"))
    assert [entry["loss"] for entry in first] == [entry["loss"] for entry in second]


def test_workers_change_nothing(tmp_path: Path) -> None:
    states = [run(tmp_path / str(workers), workers=workers).state_dict() for workers in (0, 3)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    before = run(tmp_path).state_dict()
    after = run(tmp_path).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_claim_that_empties_the_folder_starts_afresh(tmp_path: Path) -> None:
    first = run(tmp_path).state_dict()
    again = Regression()
    fit(again, Lines(), settings(tmp_path), device=CPU, claim=lambda: shutil.rmtree(tmp_path))
    assert len(read_log(tmp_path / "log.jsonl")) == 40
    assert all(torch.equal(first[key], value) for key, value in again.state_dict().items())


def test_non_finite_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match=r"step 27: loss nan.*checkpoint of step 20 is kept.*learning"):
        run(tmp_path, poison=27)
    kept = load_checkpoint(tmp_path / "checkpoints")
    assert kept is not None
    assert kept["step"] == 20
    assert all(torch.isfinite(value).all() for value in kept["method"].values())


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step})
    assert [path.name for path in checkpoints(tmp_path)] == ["step-2.pt", "step-3.pt"]
    (tmp_path / "step-3.pt").write_bytes((tmp_path / "step-3.pt").read_bytes()[:40])
    kept = load_checkpoint(tmp_path)
    assert kept is not None
    assert kept["step"] == 2
    assert "step-3.pt is damaged; resuming from an earlier checkpoint" in capsys.readouterr().err


def test_damage_within_a_checkpoint_is_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One bit of the numbers, or zeros over them: torch itself reads both without a word."""
    whole = save_checkpoint(tmp_path, 3, {"step": 3, "weights": torch.arange(1000.0)}).read_bytes()
    at = whole.index(torch.arange(100.0, 200.0).numpy().tobytes())
    flipped = bytes([whole[at] ^ 1])
    for damage in (flipped, bytes(64)):
        (tmp_path / "step-3.pt").write_bytes(whole[:at] + damage + whole[at + len(damage) :])
        assert torch.load(tmp_path / "step-3.pt", weights_only=True)["step"] == 3
        assert load_checkpoint(tmp_path) is None
        assert not has_checkpoint(tmp_path)
        assert capsys.readouterr().err == "warning: step-3.pt is damaged; starting from the first step\n"
    (tmp_path / "step-3.pt").write_bytes(whole)
    assert has_checkpoint(tmp_path)


def test_disk_full_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WorkFailed, match="No space left"):
        save_checkpoint(tmp_path, 2, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step-1.pt"]


def test_a_checkpoint_that_would_unpickle_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("touch " + str(tmp_path / "ran"),)

    torch.save({"step": 1, "x": Evil()}, tmp_path / "step-1.pt")
    assert load_checkpoint(tmp_path) is None
    assert not (tmp_path / "ran").exists()


def test_learning_rate_rises_and_falls() -> None:
    loop = LoopSettings(steps=100, warmup=0.1, learning_rate=1.0, final_rate=0.01)
    rates = [learning_rate(step, loop) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


def test_vectors_do_not_decay() -> None:
    method = Regression()
    groups = build_optimiser(method.param_groups(), LoopSettings(weight_decay=0.3)).param_groups
    assert sorted((g["weight_decay"], g["lr_scale"]) for g in groups) == [
        (0.0, 0.5),
        (0.0, 1.0),
        (0.3, 0.5),
        (0.3, 1.0),
    ]


def test_log_drops_steps_that_will_run_again_and_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": s, "loss": 1.0}) + "\n" for s in range(5)) + '{"step": 5, "lo')
    log = Log(path, 3)
    log.write({"step": 3, "loss": 2.0})
    log.close()
    assert [entry["step"] for entry in read_log(path)] == [0, 1, 2, 3]
    assert final_loss(path) == 2.0


def test_a_full_disk_is_said_when_the_log_cannot_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    real = Log.__init__

    def opened(self: Log, path: Path, first_step: int) -> None:
        real(self, path, first_step)
        if first_step == 0:
            self.file.close()
            self.file = Full()  # type: ignore[assignment]

    monkeypatch.setattr(Log, "__init__", opened)
    with pytest.raises(WorkFailed, match=r"log.jsonl: step 0 cannot be written \(No space left"):
        run(tmp_path)


def test_speed_counts_all_steps(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({"step": s, "step_s": 0.5, "data_wait_s": 0.01}) + "\n" for s in range(10)))
    measured = speed(path, batch=4)
    assert measured.samples_per_s == pytest.approx(8.0)
    assert str(measured) == "8 samples/s, 2.0% of the time waiting for data"
    assert np.isnan(speed(tmp_path / "none.jsonl", batch=4).samples_per_s)


def test_batches_keep_their_order() -> None:
    class Slow:
        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"i": np.int64(index)}

    numbers = [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(20)]
    got = [batch["i"].tolist() for batch in batches(Slow(), iter(numbers), 4)]
    assert got == numbers


SCRIPT = """
import signal, sys, torch
sys.path.insert(0, {tests!r})
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in the background, where it is ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from pathlib import Path
from test_fit import CPU, Lines, Regression, settings
from alice3d.engine.fit import fit
class Slow(Lines):
    def __getitem__(self, index):
        import time; time.sleep(0.01)
        return super().__getitem__(index)
fit(Regression(), Slow(), settings(Path(sys.argv[1]), steps=2000), device=CPU, claim=lambda: None)
"""


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ("SIGTERM", "received SIGTERM at step"),
        ("SIGHUP", "received SIGHUP at step"),
        ("SIGINT", "stopped by the user at step"),
    ],
)
def test_a_signal_writes_a_checkpoint_before_the_end(tmp_path: Path, sent: str, words: str) -> None:
    code = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent))
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    while not checkpoints(tmp_path / "checkpoints"):
        assert process.poll() is None
    process.send_signal(getattr(signal, sent))
    _, errors = process.communicate()
    assert process.returncode != 0
    assert words in errors
    kept = load_checkpoint(tmp_path / "checkpoints")
    assert kept is not None
    assert f"at step {kept['step']};" in errors


def test_signals_that_are_ignored_stay_so_and_a_second_ctrl_c_stops_at_once() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    in_front = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with stop_requests() as request:
            signal.raise_signal(signal.SIGHUP)
            assert request.signal == ""
            signal.raise_signal(signal.SIGINT)
            assert request.signal == "SIGINT"
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGINT, in_front)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.zeros(()), "a dictionary with the key 'loss' must be returned, got a Tensor"),
        ({}, "the key 'loss' is missing; returned are none"),
        ({"loss": torch.zeros(2)}, r"'loss' must be a scalar tensor \(shape \(\)\), got one of shape \(2,\)"),
        ({"loss": torch.zeros(()), "part": 0.5}, "'part' must be a scalar tensor .*, got a float"),
        ({"loss": torch.zeros(())}, "'loss' has no gradient"),
    ],
)
def test_what_a_forward_must_not_return_is_refused_by_the_name_of_its_class(
    tmp_path: Path, returned: Any, message: str
) -> None:
    class Wrong(Regression):
        def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
            return returned

    with pytest.raises(UserError, match=rf"^Wrong\.forward: {message}"):
        fit(Wrong(), Lines(), settings(tmp_path), device=CPU, claim=lambda: None)
