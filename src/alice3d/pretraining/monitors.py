"""What a self-supervised run shows of its features while it learns, without touching what it learns."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from alice3d import console, distributed
from alice3d.device import autocast
from alice3d.engine import sharding
from alice3d.engine.loader import Samples, collate
from alice3d.methods.base import PretrainMethod
from alice3d.pretraining.settings import SelfSupervisedSettings

WATCHED = 4
"""Pairs of crops that are looked at; the same ones throughout, so that the curves show the weights and not the draw."""

Probe = Callable[[int], dict[str, float]]
"""Scores of the frozen features after so many steps, by `probe_NAME`; the command builds it, since it needs labels."""


def average_distance(twins: list[tuple[nn.Module, nn.Module]]) -> dict[str, float]:
    """How far the moving averages lie from what they follow, as a share of its norm; empty where there is none."""
    apart, size = 0.0, 0.0
    for target, online in twins:
        for old, new in zip(target.parameters(), online.parameters(), strict=True):
            apart += sharding.number((old.detach().float() - new.detach().float()).square().sum())
            size += sharding.number(new.detach().float().square().sum())
    return {"average_distance": (apart / size) ** 0.5} if size else {}


class Monitors:
    """Called after each step; now and then it computes features of a few crops that training leaves out.

    The crops are those that would follow the last step. Nothing random is drawn that training draws from, and no
    weight, buffer or gradient changes: a run with and without monitors has the same bits.

    Args:
        method: as it is trained.
        samples: as in the loop.
        config: of the run: `monitor_every`, and where samples end.
        probe: scores of the frozen features, logged and said.
        probe_every: steps between probes; the last step is probed too.
    """

    def __init__(
        self,
        method: PretrainMethod,
        samples: Samples,
        config: SelfSupervisedSettings,
        *,
        probe: Probe | None = None,
        probe_every: int = 0,
    ) -> None:
        self.method, self.samples, self.config = method, samples, config
        self.probe, self.probe_every = probe, probe_every
        self.batch: dict[str, Tensor] | None = None

    def __call__(self, step: int) -> dict[str, float]:
        """What is due after `step` steps; {} otherwise."""
        last = step == self.config.steps
        every = self.config.monitor_every
        look = bool(every) and (step % every == 0 or last)
        probe = self.probe is not None and bool(self.probe_every) and (step % self.probe_every == 0 or last)
        if not look and not probe:
            return {}
        begun = time.monotonic()
        device = next(self.method.parameters()).device  # under torchrun the loop chose it
        modes = {module: module.training for module in self.method.modules()}
        self.method.eval()
        devices = [device] if device.type == "cuda" else []
        found: dict[str, float] = {}
        with torch.random.fork_rng(devices), torch.no_grad(), sharding.gathered(self.method):
            found |= self._features(device) if look else {}
            if probe and self.probe is not None:
                scores = self.probe(step)
                found |= scores
                shown = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in scores.items())
                console.say(f"Step {step}: {shown}")
        if look:
            found |= average_distance(self.method.twins())
        for module, training in modes.items():
            module.training = training
        return {**distributed.same_for_all(found), "monitor_s": time.monotonic() - begun}

    def _features(self, device: torch.device) -> dict[str, float]:
        if self.batch is None:
            first = self.config.steps * self.config.batch
            batch = collate([self.samples[first + i] for i in range(WATCHED)])
            self.batch = {key: value.to(device) for key, value in batch.items()}
        with autocast(device, self.config.precision):
            return self.method.monitors(self.batch)
