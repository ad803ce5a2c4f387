"""Weights split over processes (FSDP2), for networks whose weights and optimiser state fill a device.

A checkpoint holds unsharded tensors in every case: a run may resume sharded, replicated or on one device. FSDP takes
two seconds to import, so it is imported only by runs that shard; otherwise everything here does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from alice3d.nn.backbones.swin3d import SwinBlock
from alice3d.nn.layers import ResidualBlock, TransformerBlock

BLOCKS = (TransformerBlock, SwinBlock, ResidualBlock)
"""Modules that are gathered separately when they are computed; every network calls them as modules."""
_sharding = False


def shard(module: nn.Module, device: torch.device) -> None:
    """Split every weight over all processes, in place.

    A block's weights are gathered when it is computed and dropped afterwards; all others are gathered once per step.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    global _sharding
    _sharding = True
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for block in list(module.modules()):
        if isinstance(block, BLOCKS):
            fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)


def _parts(module: nn.Module) -> list[Any]:
    """The modules whose weights are gathered together, the root first."""
    if not _sharding:
        return []
    from torch.distributed.fsdp import FSDPModule

    return [each for each in module.modules() if isinstance(each, FSDPModule)]


def hold_gradients(module: nn.Module, held: bool) -> None:
    """Whether backward passes keep unsharded gradients in each process instead of scattering them."""
    for whole_module in _parts(module)[:1]:
        whole_module.set_requires_gradient_sync(not held)


@contextlib.contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Inside, weights are unsharded in every process and may be read and used; all processes must enter."""
    parts = _parts(module)
    for each in parts:
        each.unshard()
    try:
        yield
    finally:
        for each in parts:
            each.reshard()


def whole(value: Any) -> Any:
    """The same nested dicts and lists with every sharded tensor gathered; all processes must call it."""
    if not _sharding:
        return value
    if isinstance(value, Mapping):
        return {key: whole(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(each) for each in value]
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _split_like(value: Tensor, like: Tensor) -> Tensor:
    """An unsharded tensor, sharded like `like`."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def load_whole(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`load_state_dict` from unsharded tensors."""
    if _sharding:
        own = module.state_dict()
        state = {key: _split_like(value, own[key]) for key, value in state.items()}
    module.load_state_dict(state)


def load_whole_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`load_state_dict` of an optimiser from unsharded tensors."""
    if _sharding:
        weights = [weight for group in optimiser.param_groups for weight in group["params"]]
        split = {
            number: {key: _split_like(each, weights[number]) if each.ndim else each for key, each in of_one.items()}
            for number, of_one in state["state"].items()
        }
        state = {**state, "state": split}
    optimiser.load_state_dict(state)


def number(value: Tensor) -> float:
    """A scalar over all processes, such as the norm or sum of sharded tensors."""
    return float(whole(value))


def make_whole(module: nn.Module) -> None:
    """Replace sharded weights by unsharded ones permanently; all processes must call it, after training."""
    if not _sharding:
        return
    for owner in module.modules():
        for name, weight in owner.named_parameters(recurse=False):
            owner._parameters[name] = nn.Parameter(whole(weight.detach()), requires_grad=weight.requires_grad)
