"""Statistics over all processes of a distributed run; plain values where there is one process."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def all_reduce(value: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    """`value` reduced over all ranks (AVG, SUM or MAX); `value` itself without a process group. No gradient flows."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    value = value.detach().clone()
    if operation == dist.ReduceOp.AVG:  # gloo knows no AVG
        dist.all_reduce(value, dist.ReduceOp.SUM)
        return value / dist.get_world_size()
    dist.all_reduce(value, operation)
    return value
