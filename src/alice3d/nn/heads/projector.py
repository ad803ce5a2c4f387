"""Projection heads that contrast and regression learn through."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Norm = Literal["layer", "batch", "none"]
"""`layer` looks at single rows, so a batch in parts gives the same step; `batch` is what most papers have."""


class Projector(nn.Module):
    """MLP with a norm and ReLU after each hidden layer (SimCLR, Chen et al., ICML 2020; VoCo's has three layers).

    Args:
        width: of the input.
        hidden: width of the hidden layers.
        out: of the output.
        layers: linear layers, 1 or more.
        norm: after each hidden layer.
    """

    def __init__(self, width: int, *, hidden: int, out: int, layers: int = 3, norm: Norm = "layer") -> None:
        super().__init__()
        sizes = [width, *[hidden] * (layers - 1), out]
        parts: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(sizes), start=1):
            parts.append(nn.Linear(before, after))
            if number < layers:
                parts += [*_norm(norm, after), nn.ReLU()]
        self.mlp = nn.Sequential(*parts)

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        """(n, width) to (n, out)."""
        out: Tensor = self.mlp(rows)
        return out


def _norm(norm: Norm, width: int) -> list[nn.Module]:
    if norm == "none":
        return []
    return [nn.LayerNorm(width) if norm == "layer" else nn.BatchNorm1d(width)]


def pooled_levels(maps: Sequence[Tensor]) -> Float[Tensor, "b d"]:
    """The mean of each map of a pyramid, joined: (b, sum of channels)."""
    return torch.cat([level.float().mean(dim=(2, 3, 4)) for level in maps], dim=1)
