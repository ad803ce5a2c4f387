"""Many processes under torchrun: each computes its part of every batch, and all take the same step."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from alice3d.distributed import announced, is_chief, rank, world_size
from alice3d.engine import sharding
from alice3d.errors import UserError

_parted = False


def start(device: torch.device, seed: int = 0) -> torch.device:
    """Join the process group that torchrun announces, if any; returns this process's device.

    From here on only the first process prints: standard output of the others is dropped.

    Raises:
        UserError: a second training in one call; the other processes ended with the first training.
    """
    if announced() < 2 or dist.is_initialized():
        return device
    if _parted:
        raise UserError("under torchrun a call trains once; run each round or part as a separate command")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if not is_chief():
        torch.manual_seed(seed + 1_000_003 * rank())  # each process has its own dropout
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return device


def wait() -> None:
    """Barrier: wait for all processes."""
    if dist.is_initialized():
        dist.barrier()


def part() -> None:
    """Leave the group after training: the rest (weights, cards, reports) is done by the first process only.

    Raises:
        SystemExit: in all processes but the first, which are done.
    """
    global _parted
    if not dist.is_initialized():
        return
    dist.barrier()
    dist.destroy_process_group()
    _parted = True
    if not is_chief():
        raise SystemExit(0)


def share_size(batch: int, parts: int, processes: int) -> int:
    """Samples that a process computes at once.

    Raises:
        UserError: the batch cannot be split equally.
    """
    if batch % (processes * parts):
        several = "1 process" if processes == 1 else f"{processes} processes"
        among = several if parts == 1 else f"{several} in {parts} parts (--accumulate)"
        raise UserError(f"--batch: {batch} samples cannot be split equally over {among}")
    return batch // (processes * parts)


def my_share(numbers: list[int], parts: int = 1) -> list[list[int]]:
    """This process's samples of a batch, for each of the consecutive parts.

    Raises:
        UserError: the batch cannot be split equally.
    """
    world = world_size()
    size = share_size(len(numbers), parts, world)
    firsts = [(turn * world + rank()) * size for turn in range(parts)]
    return [numbers[first : first + size] for first in firsts]


class Spread:
    """A method over all processes: called like the method, with gradients averaged over all processes.

    Replicated (DDP, which sends gradients while the backward pass goes on), or sharded (FSDP: see `sharding`). With
    one process it is the method itself.

    Args:
        module: the method, on its device.
        sharded: split weights, gradients and optimiser state over the processes.
    """

    def __init__(self, module: nn.Module, device: torch.device, *, sharded: bool) -> None:
        self.model = module
        if world_size() == 1:
            return
        if sharded:
            sharding.shard(module, device)
            return
        # A loss that is switched off or a frozen backbone leaves weights without a gradient: DDP must not wait for
        # them.
        self.model = DistributedDataParallel(module, find_unused_parameters=True)

    def __call__(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = self.model(batch, step)
        return parts

    @contextlib.contextmanager
    def keeping(self, held: bool) -> Iterator[None]:
        """Inside, where `held`, gradients are accumulated locally; the next backward pass outside sends the sum."""
        replicated = isinstance(self.model, DistributedDataParallel)
        sharding.hold_gradients(self.model, held)
        with self.model.no_sync() if held and replicated else contextlib.nullcontext():  # type: ignore[operator]
            yield


def random_states(device: torch.device) -> Tensor:
    """Random states of all processes, one row each: the CPU's, then the GPU's where there is one."""
    state = torch.get_rng_state()
    if device.type == "cuda":
        state = torch.cat([state, torch.cuda.get_rng_state(device)])
    if world_size() == 1:
        return state[None]
    there = state.to(device)
    rows = [torch.empty_like(there) for _ in range(world_size())]
    dist.all_gather(rows, there)
    return torch.stack(rows).cpu()


def set_random_state(states: Tensor, device: torch.device) -> None:
    """Restore from a row of `random_states`; where there are more processes now, the others keep their own states."""
    if rank() >= len(states):
        return
    size = len(torch.get_rng_state())
    own = states[rank()]
    torch.set_rng_state(own[:size].clone())  # torch 2.13 reads a view from the start of its memory, and crashes
    if device.type == "cuda" and len(own) > size:
        torch.cuda.set_rng_state(own[size:].clone(), device)
