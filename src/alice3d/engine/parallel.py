"""Many processes under torchrun: each takes its share of every batch, gradients are averaged."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn

from alice3d.errors import UserError


def start(device: torch.device) -> torch.device:
    """Join the process group that torchrun announces, if any; returns this process's device."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world < 2 or dist.is_initialized():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def rank() -> int:
    """Number of this process, 0 without torchrun."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def my_share(numbers: list[int]) -> list[int]:
    """This process's samples of a batch.

    Raises:
        UserError: the batch cannot be shared equally.
    """
    world = world_size()
    if len(numbers) % world:
        raise UserError(f"--batch: {len(numbers)} samples cannot be shared equally by {world} processes")
    size = len(numbers) // world
    return numbers[rank() * size : (rank() + 1) * size]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes, in one message; a missing one counts as zero."""
    if world_size() == 1:
        return
    params = list(parameters)
    for p in params:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    flat = torch.cat([p.grad.flatten() for p in params if p.grad is not None])
    dist.all_reduce(flat)
    flat /= world_size()
    offset = 0
    for p in params:
        assert p.grad is not None
        p.grad.copy_(flat[offset : offset + p.numel()].view_as(p.grad))
        offset += p.numel()


def average(value: float) -> float:
    """Mean of a number over all processes."""
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64)
    if dist.get_backend() == "nccl":
        tensor = tensor.cuda()
    dist.all_reduce(tensor)
    return float(tensor) / world_size()
