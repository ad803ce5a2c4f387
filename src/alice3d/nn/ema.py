"""Exponential moving averages of modules: the target branch of self-distillation."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def target_of(module: M) -> M:
    """A frozen copy of `module` that starts equal to it and takes no gradient."""
    target = copy.deepcopy(module)
    target.requires_grad_(False)
    return target


@torch.no_grad()
def update_ema(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """target ← momentum · target + (1 - momentum) · online, for every parameter; buffers are copied."""
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new.detach().to(old.dtype), 1 - momentum)
    for kept, current in zip(target.buffers(), online.buffers(), strict=True):
        kept.copy_(current)


def cosine_momentum(step: int, total_steps: int, *, start: float, end: float = 1.0) -> float:
    """Momentum that rises from `start` to `end` along half a cosine (BYOL, Grill et al., NeurIPS 2020)."""
    share = min(step / max(total_steps, 1), 1.0)
    return end - (end - start) * (math.cos(math.pi * share) + 1) / 2
