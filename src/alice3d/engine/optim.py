"""AdamW with warm-up and cosine."""

from __future__ import annotations

import math
from typing import Any

import torch

from alice3d.engine.settings import LoopSettings


def learning_rate(step: int, settings: LoopSettings) -> float:
    """Rate at a step (from 0): linear rise over the warm-up, then half a cosine down to `final_rate` of the highest."""
    rise = round(settings.warmup * settings.steps)
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    share = (step - rise) / max(settings.steps - rise, 1)
    low = settings.final_rate
    return settings.learning_rate * (low + (1 - low) * (1 + math.cos(math.pi * share)) / 2)


def build_optimiser(groups: list[dict[str, Any]], settings: LoopSettings) -> torch.optim.AdamW:
    """AdamW over a method's groups; each is split into what decays (matrices) and what does not (vectors, tokens).

    Args:
        groups: `params`, and where they differ `lr_scale` (1) and `weight_decay`.
        settings: of the loop.
    """
    split = []
    for group in groups:
        decay = float(group.get("weight_decay", settings.weight_decay))
        scale = float(group.get("lr_scale", 1.0))
        params = list(group["params"])
        for chosen, its_decay in (
            ([p for p in params if p.ndim >= 2], decay),
            ([p for p in params if p.ndim < 2], 0.0),
        ):
            if chosen:
                split.append({"params": chosen, "lr_scale": scale, "weight_decay": its_decay})
    return torch.optim.AdamW(split, lr=settings.learning_rate, betas=(0.9, 0.95))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_scale"]
