"""The only training loop: logs every step, writes checkpoints, and resumes exactly."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alice3d import console, distributed
from alice3d.device import autocast
from alice3d.engine import parallel, sharding
from alice3d.engine.checkpoint import load_checkpoint, save_checkpoint
from alice3d.engine.loader import Samples, batches
from alice3d.engine.log import UNKNOWN_SPEED, Log, Speed, final_loss, speed
from alice3d.engine.optim import build_optimiser, set_rates
from alice3d.engine.settings import TrainingConfig
from alice3d.engine.signals import stop_requests
from alice3d.errors import UserError, WorkFailed
from alice3d.methods.base import Method, check_returned


@dataclass(frozen=True)
class FitResult:
    """Result of a run: steps, mean loss of the last tenth of them, seconds of computing over all calls."""

    steps: int
    loss: float
    seconds: float
    speed: Speed = UNKNOWN_SPEED


def fit(
    method: Method,
    samples: Samples,
    config: TrainingConfig,
    *,
    device: torch.device,
    claim: Callable[[], None],
    watch: Callable[[int], dict[str, float]] | None = None,
    guard: Callable[[int, dict[str, float]], str] | None = None,
) -> FitResult:
    """Train a method, from its last checkpoint if the output folder holds one.

    Step s takes samples s·batch to (s+1)·batch - 1, so a resumed run uses the samples of an uninterrupted one, and
    many processes together use the samples of one. Under torchrun only the first process returns.

    Args:
        method: a module; moved to `device`.
        samples: by number.
        config: of the loop, and where to write: `log.jsonl`, `checkpoints/`.
        device: where to compute.
        claim: called once before anything is written.
        watch: called after each step with the number of steps done; its result is logged with the step. It must not
            change weights or random state.
        guard: called next, with all values of the step as well; a non-empty result is the reason to stop.

    Raises:
        UserError: the batch cannot be split equally, the method's groups of weights or what its `forward` returns are
            not of the form that `Method` says, or the checkpoint is of another method or version.
        WorkFailed: the loss is not finite, the disk is full, `guard` stops the run, or SIGTERM or SIGHUP was received;
            the last checkpoint is kept.
        KeyboardInterrupt: Ctrl-C, once the running step is done; its checkpoint is kept.
    """
    assert isinstance(method, nn.Module)
    parallel.share_size(config.batch, config.accumulate, distributed.announced())  # refuses before anything is written
    device = parallel.start(device, config.seed)
    chief = distributed.is_chief()
    folder = config.out / "checkpoints"
    layout = torch.contiguous_format if config.shard_weights else torch.channels_last_3d  # FSDP supports no other
    module = method.to(device, memory_format=layout)  # type: ignore[call-overload]
    model = parallel.Spread(module, device, sharded=config.shard_weights)
    optimiser = build_optimiser(method.param_groups(), config, module.named_parameters())
    run = _Run(method, model, optimiser, config, device, folder)
    if chief:
        claim()  # before checkpoints are searched: those of a replaced run are removed by then
        config.out.mkdir(parents=True, exist_ok=True)
    parallel.wait()
    first, seconds = _restore(folder, module, optimiser, device)
    log = Log(config.out / "log.jsonl", first) if chief else None
    loader = batches(samples, _numbers(first, config), config.workers)
    module.train()
    begun = time.monotonic()
    with _closing(log, loader), stop_requests() as request, _progress(first, config.steps, chief) as bar:
        for step in range(first, config.steps):
            entry, about, stop_requested = run.step(step, loader, bool(request.signal))
            entry |= watch(step + 1) if watch is not None else {}
            alarm = guard(step + 1, entry) if guard is not None else ""
            if log is not None:
                log.write({"step": step, **entry, **about})
            bar(f"loss {entry['loss']:.3f}")
            last = step + 1 == config.steps
            if last or stop_requested or alarm or (step + 1) % config.checkpoint_every == 0:
                everything = _everything(step + 1, module, optimiser, seconds + time.monotonic() - begun, device)
                if chief:
                    save_checkpoint(folder, step + 1, everything)
            if alarm:
                raise WorkFailed(f"step {step + 1}: {alarm}; a checkpoint of this step is kept")
            if stop_requested and not last:
                request.end(step + 1)
    seconds += time.monotonic() - begun
    sharding.make_whole(module)
    parallel.part()
    module.eval()
    path = config.out / "log.jsonl"
    return FitResult(config.steps, final_loss(path), round(seconds, 1), speed(path, config.batch))


@dataclass(frozen=True)
class _Run:
    """What every step works with."""

    method: Method
    model: parallel.Spread
    optimiser: torch.optim.Optimizer
    config: TrainingConfig
    device: torch.device
    folder: Path

    def step(
        self, number: int, loader: Iterator[dict[str, Tensor]], terminated: bool
    ) -> tuple[dict[str, float], dict[str, float], bool]:
        """One step of the optimiser: losses; rate, gradient and timing; whether any process was asked to stop."""
        started = time.monotonic()
        rate = set_rates(self.optimiser, number, self.config)
        self.optimiser.zero_grad(set_to_none=True)
        parts, waited = self._gradients(loader, number)
        entry, stop_requested = distributed.agreed(parts, terminated)
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = sharding.number(nn.utils.clip_grad_norm_(trained, self.config.clip))
        _refuse_not_finite(number, {**entry, "gradient norm": norm}, self.folder)
        self.optimiser.step()
        self.method.after_step(number)
        took = time.monotonic() - started
        timing = {"data_wait_s": waited, "step_s": took, "samples_per_s": self.config.batch / took}
        return entry, {"learning_rate": rate, "gradient_norm": norm, **timing}, stop_requested

    def _gradients(self, loader: Iterator[dict[str, Tensor]], number: int) -> tuple[list[dict[str, Tensor]], float]:
        """Forward and backward pass of a batch, in its parts; returns each part's losses, and seconds waited for
        data."""
        losses, waited, turns = [], 0.0, self.config.accumulate
        for turn in range(turns):
            asked = time.monotonic()
            batch = {key: _place(value, self.device) for key, value in next(loader).items()}
            waited += time.monotonic() - asked
            with self.model.keeping(turn + 1 < turns):
                with autocast(self.device, self.config.precision):
                    parts = check_returned(self.method, self.model(batch, number))
                (parts["loss"] / turns).backward()  # type: ignore[no-untyped-call]
            losses.append(parts)
        return losses, waited


@contextlib.contextmanager
def _closing(log: Log | None, loader: Iterator[dict[str, Tensor]]) -> Iterator[None]:
    """Closes the log and stops the reading threads, however the loop ends."""
    try:
        yield
    finally:
        if log is not None:
            log.close()
        loader.close()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _progress(first: int, steps: int, chief: bool) -> Iterator[Callable[[str], None]]:
    """Progress bar of steps with a note; shown by one process."""
    if not chief:
        yield lambda note: None
        return
    with console.progress("Training", steps, first) as bar:
        yield lambda note: bar.advance(note=note)


def _numbers(first: int, config: TrainingConfig) -> Iterator[list[int]]:
    for step in range(first, config.steps):
        yield from parallel.my_share(list(range(step * config.batch, (step + 1) * config.batch)), config.accumulate)


def _everything(
    step: int, module: nn.Module, optimiser: torch.optim.Optimizer, seconds: float, device: torch.device
) -> dict[str, Any]:
    """Content of a checkpoint; unsharded tensors, so that any number of processes can resume from it."""
    return {
        "step": step,
        "seconds": seconds,
        "method": sharding.whole(module.state_dict()),  # online, target, centres
        "optimiser": sharding.whole(optimiser.state_dict()),
        "random": parallel.random_states(device),
    }


def _restore(
    folder: Path, module: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device
) -> tuple[int, float]:
    """Fill module and optimiser from the newest checkpoint; returns the finished steps and their seconds."""
    kept = load_checkpoint(folder) if folder.is_dir() else None
    if kept is None:
        return 0, 0.0
    try:
        sharding.load_whole(module, kept["method"])
        sharding.load_whole_optimiser(optimiser, kept["optimiser"])
    except (RuntimeError, ValueError, KeyError):
        raise UserError(
            f"{folder}: the checkpoint of step {kept['step']} does not fit the method; if another version of the "
            "program or of the method wrote it, remove that folder and train again with --overwrite"
        ) from None
    parallel.set_random_state(kept["random"], device)
    console.say(f"Going on from step {kept['step']}, resumed from its checkpoint.")
    return int(kept["step"]), float(kept["seconds"])


def _refuse_not_finite(step: int, entry: dict[str, float], folder: Path) -> None:
    """Stop before weights change where the loss or its gradient is not finite."""
    if math.isfinite(entry["loss"]) and math.isfinite(entry["gradient norm"]):
        return
    shown = ", ".join(f"{key} {value:g}" for key, value in entry.items() if not math.isfinite(value))
    kept = load_checkpoint(folder) if folder.is_dir() else None
    last = f"the checkpoint of step {kept['step']} is kept" if kept else "no checkpoint was written yet"
    raise WorkFailed(f"not finite at step {step}: {shown}; {last}; try a lower --learning_rate or --clip")


def _place(value: Tensor, device: torch.device) -> Tensor:
    """To the device; crops with channels last, which is fastest for convolution and channel normalisation."""
    value = value.to(device, non_blocking=True)
    return value.contiguous(memory_format=torch.channels_last_3d) if value.ndim == 5 else value
