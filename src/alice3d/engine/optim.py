"""AdamW with warm-up and cosine schedule, with settings per group of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from alice3d.config import nearest
from alice3d.engine.settings import LoopSettings
from alice3d.errors import UserError

GROUP_KEYS = ("params", "lr_scale", "starts_at", "weight_decay")
"""Keys of a group of `param_groups`; all but the first may be left out."""


def learning_rate(step: int, settings: LoopSettings, *, starts_at: float = 0.0) -> float:
    """Learning rate at a step (from 0): linear warm-up, then half a cosine down to `final_rate` of the peak.

    Args:
        step: from 0.
        settings: of the loop.
        starts_at: fraction of the run before which the learning rate is 0; the warm-up follows it.
    """
    begin = round(starts_at * settings.steps)
    if step < begin:
        return 0.0
    length = settings.steps - begin
    rise = round(settings.warmup * length)
    if step - begin < rise:
        return settings.learning_rate * (step - begin + 1) / rise
    share = (step - begin - rise) / max(length - rise, 1)
    low = settings.final_rate
    return settings.learning_rate * (low + (1 - low) * (1 + math.cos(math.pi * share)) / 2)


def weight_decay(step: int, settings: LoopSettings) -> float:
    """Weight decay at a step: half a cosine from `weight_decay` to `weight_decay_end` (DINO, Caron et al., ICCV
    2021)."""
    first, last = settings.weight_decay, settings.weight_decay_end
    if last is None:
        return first
    share = min(step / max(settings.steps - 1, 1), 1.0)
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def decays(name: str, weight: Tensor) -> bool:
    """Whether weight decay applies to a weight: to matrices and kernels only, not to biases, scales or tokens.

    It does not apply to vectors, biases of any shape (Swin's bias tables) and tokens, which have a first axis of 1
    for the batch: (1, tokens, width).
    """
    token = weight.ndim == 3 and len(weight) == 1
    return weight.ndim >= 2 and not token and name.rpartition(".")[2] != "bias"


def build_optimiser(
    groups: list[dict[str, Any]], settings: LoopSettings, named: Iterable[tuple[str, Tensor]] = ()
) -> torch.optim.AdamW:
    """AdamW over a method's groups; each is split into weights with and without decay (`decays`).

    Args:
        groups: `params`, and where they differ from the loop's: `lr_scale` (1), `starts_at` (fraction of the run for
            which the group is frozen, 0) and `weight_decay` (then constant).
        settings: of the loop.
        named: the method's weights by name; for others only the shape counts.

    Raises:
        UserError: a group has an unknown key, or no `params`.
    """
    names = {weight: name for name, weight in named}
    split = []
    for group in groups:
        _check_keys(group)
        decay = float(group.get("weight_decay", settings.weight_decay))
        shared = {"lr_scale": float(group.get("lr_scale", 1.0)), "starts_at": float(group.get("starts_at", 0.0))}
        params = list(group["params"])
        for wanted, its_decay in ((True, decay), (False, 0.0)):
            chosen = [p for p in params if decays(names.get(p, ""), p) is wanted]
            if chosen:
                follows = "weight_decay" not in group and its_decay == decay
                split.append({"params": chosen, **shared, "weight_decay": its_decay, "decay_follows": follows})
    return torch.optim.AdamW(split, lr=settings.learning_rate, betas=(0.9, 0.95))


def _check_keys(group: dict[str, Any]) -> None:
    for key in group:
        if key not in GROUP_KEYS:
            more = "; a group's learning rate is lr_scale times that of the loop" if key == "lr" else ""
            raise UserError(f"param_groups(): a group has no key {key!r}; {nearest(key, GROUP_KEYS)}{more}")
    if "params" not in group:
        raise UserError("param_groups(): a group needs the key 'params', a list of weights")


def set_rates(optimiser: torch.optim.Optimizer, step: int, settings: LoopSettings) -> float:
    """Set learning rate and weight decay of every group for a step; returns the rate of a group with default
    settings."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(step, settings, starts_at=group["starts_at"]) * group["lr_scale"]
        if group["decay_follows"] and settings.weight_decay_end is not None:
            group["weight_decay"] = weight_decay(step, settings)
    return learning_rate(step, settings)
