"""Rank and number of processes, and values that all processes agree on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def announced() -> int:
    """Number of processes that torchrun started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process, 0 without torchrun."""
    return int(os.environ.get("RANK", "0")) if announced() > 1 else 0


def is_chief() -> bool:
    """Whether this process writes files and console output (rank 0)."""
    return rank() == 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def agreed(parts: Sequence[Mapping[str, Tensor]], flag: bool) -> tuple[dict[str, float], bool]:
    """Mean of each number over the parts of a batch and all processes, and whether any process raises the flag.

    One message per step, so that all processes log the same values, and stop at the same step.
    """
    names = list(parts[0])
    values = torch.stack([torch.stack([each[name].detach().float() for name in names]) for each in parts])
    total = torch.cat([values.mean(dim=0), values.new_tensor([float(flag)])])
    if world_size() > 1:
        dist.all_reduce(total)
        total[:-1] /= world_size()
    *numbers, flags = total.tolist()
    return dict(zip(names, numbers, strict=True)), flags > 0


def same_for_all(values: dict[str, float]) -> dict[str, float]:
    """The first process's values, so that every process decides the same."""
    if world_size() == 1 or not values:
        return values
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.broadcast(numbers, 0)
    return dict(zip(values, numbers.tolist(), strict=True))


def all_reduce(value: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    """`value` reduced over all ranks (AVG, SUM or MAX); `value` itself without a process group. No gradient flows."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    value = value.detach().clone()
    if operation == dist.ReduceOp.AVG:  # gloo has no AVG
        dist.all_reduce(value, dist.ReduceOp.SUM)
        return value / dist.get_world_size()
    dist.all_reduce(value, operation)
    return value


def all_gather(value: Tensor) -> Tensor:
    """`value` of all ranks, of equal shapes, one after another along the first axis; no gradient flows."""
    if world_size() == 1:
        return value
    parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(world_size())]
    dist.all_gather(parts, value.detach().contiguous())
    return torch.cat(parts)
