"""The only training loop: samples in, losses down, every step on record, and a kill costs at most a checkpoint."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from alice3d import console
from alice3d.engine import parallel
from alice3d.engine.checkpoint import load_checkpoint, save_checkpoint
from alice3d.engine.device import autocast
from alice3d.engine.feed import Samples, batches
from alice3d.engine.log import Log, final_loss
from alice3d.engine.optim import build_optimiser, learning_rate, set_rate
from alice3d.engine.settings import TrainingConfig
from alice3d.errors import WorkFailed
from alice3d.methods.base import Method


@dataclass(frozen=True)
class FitResult:
    """What the loop says of a run: steps, mean loss of their last tenth, seconds of computing over all its parts."""

    steps: int
    loss: float
    seconds: float


def fit(
    method: Method,
    samples: Samples,
    config: TrainingConfig,
    *,
    device: torch.device,
    claim: Callable[[], None],
    watch: Callable[[int], dict[str, float]] | None = None,
) -> FitResult:
    """Train a method, from its last checkpoint if the output folder holds one.

    Step s takes samples s·batch to (s+1)·batch - 1, so a run that goes on sees what an uninterrupted one sees.

    Args:
        method: a module; moved to `device`.
        samples: by number.
        config: of the loop, and where to write: `log.jsonl`, `checkpoints/`.
        device: where to compute.
        claim: called once before anything is written.
        watch: called after each step with the number of steps done; what it returns is logged with the step.

    Raises:
        WorkFailed: the loss is not finite, the disk is full, or the run was told to stop (SIGTERM); what the last
            checkpoint holds is kept.
    """
    assert isinstance(method, nn.Module)
    device = parallel.start(device)
    chief = parallel.rank() == 0
    folder = config.out / "checkpoints"
    module = method.to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = build_optimiser(method.param_groups(), config)
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    first, seconds = _restore(folder, module, optimiser)
    if chief:
        claim()
        config.out.mkdir(parents=True, exist_ok=True)
    log = Log(config.out / "log.jsonl", first) if chief else None
    module.train()

    def keep(step: int) -> None:
        if chief:
            save_checkpoint(folder, step, _everything(step, module, optimiser, seconds + time.monotonic() - begun))

    begun = time.monotonic()
    feed = batches(samples, _numbers(first, config), config.workers)
    with _closing(log, feed), _terminated() as told_to_stop, console.progress("Training", config.steps, first) as bar:
        for step in range(first, config.steps):
            asked = time.monotonic()
            batch = {key: _place(value, device) for key, value in next(feed).items()}
            arrived = time.monotonic()
            rate = learning_rate(step, config)
            set_rate(optimiser, rate)
            with autocast(device, config.precision):
                parts = method.forward(batch, step)
            entry = {key: parallel.average(float(value.detach())) for key, value in parts.items()}
            if not math.isfinite(entry["loss"]):
                raise _not_finite(step, entry, folder)
            optimiser.zero_grad(set_to_none=True)
            parts["loss"].backward()  # type: ignore[no-untyped-call]
            parallel.average_gradients(trained)
            norm = float(nn.utils.clip_grad_norm_(trained, config.clip))
            if not math.isfinite(norm):
                raise _not_finite(step, {"gradient norm": norm}, folder)
            optimiser.step()
            method.after_step(step)
            if watch is not None:
                entry |= watch(step + 1)
            if log is not None:
                timing = {"data_wait_s": arrived - asked, "step_s": time.monotonic() - asked}
                log.write({"step": step, **entry, "learning_rate": rate, "gradient_norm": norm, **timing})
            bar.advance(note=f"loss {entry['loss']:.3f}")
            last = step + 1 == config.steps
            if last or told_to_stop[0] or (step + 1) % config.checkpoint_every == 0:
                keep(step + 1)
            if told_to_stop[0] and not last:
                raise WorkFailed(f"told to stop at step {step + 1}; a checkpoint is kept, the same command goes on")
    seconds += time.monotonic() - begun
    module.eval()
    loss = final_loss(config.out / "log.jsonl") if chief else math.nan
    return FitResult(config.steps, loss, round(seconds, 1))


@contextlib.contextmanager
def _closing(log: Log | None, feed: Iterator[dict[str, Tensor]]) -> Iterator[None]:
    """However the loop ends, its lines reach the disk and its reading threads stop."""
    try:
        yield
    finally:
        if log is not None:
            log.close()
        feed.close()  # type: ignore[attr-defined]


def _numbers(first: int, config: TrainingConfig) -> Iterator[list[int]]:
    for step in range(first, config.steps):
        yield parallel.my_share(list(range(step * config.batch, (step + 1) * config.batch)))


def _everything(step: int, module: nn.Module, optimiser: torch.optim.Optimizer, seconds: float) -> dict[str, Any]:
    return {
        "step": step,
        "seconds": seconds,
        "method": module.state_dict(),  # online, target, centres
        "optimiser": optimiser.state_dict(),
        "random": torch.get_rng_state(),
    }


def _restore(folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
    """Fill module and optimiser from the newest checkpoint; returns the steps done and the seconds they took."""
    kept = load_checkpoint(folder) if folder.is_dir() else None
    if kept is None:
        return 0, 0.0
    module.load_state_dict(kept["method"])
    optimiser.load_state_dict(kept["optimiser"])
    torch.set_rng_state(kept["random"])
    console.say(f"Going on from step {kept['step']}.")
    return int(kept["step"]), float(kept["seconds"])


def _not_finite(step: int, entry: dict[str, float], folder: Path) -> WorkFailed:
    shown = ", ".join(f"{key} {value:g}" for key, value in entry.items() if not math.isfinite(value))
    kept = load_checkpoint(folder) if folder.is_dir() else None
    last = f"the checkpoint of step {kept['step']} is kept" if kept else "no checkpoint was written yet"
    return WorkFailed(f"not finite at step {step}: {shown}; {last}; try a lower --learning_rate or --clip")


def _place(value: Tensor, device: torch.device) -> Tensor:
    """To the device; crops with channels last, in which convolution and channel normalisation are quickest."""
    value = value.to(device, non_blocking=True)
    return value.contiguous(memory_format=torch.channels_last_3d) if value.ndim == 5 else value


@contextlib.contextmanager
def _terminated() -> Iterator[list[bool]]:
    """A flag that SIGTERM raises (clusters send it before the time limit); the handler before is put back."""
    flag = [False]

    def raise_flag(number: int, frame: FrameType | None) -> None:
        flag[0] = True

    try:
        before = signal.signal(signal.SIGTERM, raise_flag)
    except ValueError:  # not in the main thread: Python allows no handler there
        yield flag
        return
    try:
        yield flag
    finally:
        signal.signal(signal.SIGTERM, before)
