"""Attention within windows of a 3D grid, shifted or not: what 3D Swin is made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from alice3d.nn.layers import attention

# Shape suffixes: b batch, xyz places of a grid, d width, w windows, t places of a window, h heads.

Sides = tuple[int, int, int]


def window_layout(grid: Sides, window: int, shifted: bool) -> tuple[Sides, Sides, Sides]:
    """Cut a grid into equal windows: as few as `window` allows, each as small as that number of them can be.

    Args:
        grid: places along x, y, z.
        window: most places a side.
        shifted: whether windows lie half a window further on; an axis of one window never shifts.

    Returns:
        sides of a window, shifts, and sides of the grid padded to whole windows.
    """
    counts = [-(-n // window) for n in grid]
    sides = [-(-n // count) for n, count in zip(grid, counts, strict=True)]
    shifts = [side // 2 if shifted and count > 1 else 0 for side, count in zip(sides, counts, strict=True)]
    padded = [side * count for side, count in zip(sides, counts, strict=True)]
    return sides_of(sides), sides_of(shifts), sides_of(padded)


def sides_of(values: Sequence[int]) -> Sides:
    """Three numbers, as a tuple of three."""
    x, y, z = values
    return x, y, z


def into_windows(x_bxyzd: Tensor, sides: Sides) -> Float[Tensor, "b w t d"]:
    """(b, x, y, z, d) to (b, windows, places of a window, d), both in x-major order."""
    b, *grid, d = x_bxyzd.shape
    cut = x_bxyzd.reshape(b, *itertools.chain.from_iterable((n // s, s) for n, s in zip(grid, sides, strict=True)), d)
    return cut.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, -1, sides[0] * sides[1] * sides[2], d)


def from_windows(x_bwtd: Tensor, sides: Sides, grid: Sides) -> Float[Tensor, "b x y z d"]:
    """The reverse of `into_windows`."""
    b, _, _, d = x_bwtd.shape
    cut = x_bwtd.reshape(b, *(n // s for n, s in zip(grid, sides, strict=True)), *sides, d)
    return cut.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, *grid, d)


@lru_cache(maxsize=64)
def relative_index(sides: Sides, window: int) -> Tensor:
    """(t, t) int64: for places i and j of a window, the row of the bias table for the offset i - j."""
    place_t3 = torch.cartesian_prod(*(torch.arange(n) for n in sides))
    offset = place_t3[:, None] - place_t3[None] + window - 1
    span = 2 * window - 1
    return (offset[..., 0] * span + offset[..., 1]) * span + offset[..., 2]


@lru_cache(maxsize=64)
def may_attend(grid: Sides, window: int, shifted: bool) -> Tensor | None:
    """Which places of a window see each other; None = all.

    The grid is rolled so that shifted windows become aligned; what the roll brings together from the two ends of an
    axis is kept apart, and so are the padded places, which see each other alone.

    Returns:
        (windows, t, t) bool, True = sees.
    """
    sides, shifts, padded = window_layout(grid, window, shifted)
    if not any(shifts) and padded == grid:
        return None
    region = torch.zeros(padded, dtype=torch.int64)
    real = torch.ones(padded, dtype=torch.bool)
    for axis, (n, side, shift, whole) in enumerate(zip(grid, sides, shifts, padded, strict=True)):
        place = (torch.arange(whole) + shift) % whole  # where a rolled place came from
        shape = [-1 if a == axis else 1 for a in range(3)]
        # windows counted before the roll: the first one, cut short, is number 0
        region = region * (whole + 1) + ((place + side - shift) // side if shift else place // side).view(shape)
        real &= (place < n).view(shape)
    region = into_windows(torch.where(real, region, -1)[None, ..., None], sides)[0, :, :, 0]
    return region[:, :, None] == region[:, None, :]


class WindowAttention(nn.Module):
    """Self-attention within windows, with a learned bias for each offset between two places.

    Args:
        width: of the features.
        heads: attention heads.
        window: most places a side of a window.
        shifted: whether the windows are shifted by half of their side.
    """

    def __init__(self, width: int, heads: int, *, window: int, shifted: bool) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads, self.window, self.shifted = heads, window, shifted
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 3, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)

    def _mask(self, grid: Sides, sides: Sides, x: Tensor) -> Float[Tensor, "1 wh t t"]:
        """What is added to the scores: the offsets' biases, and -inf where places must not see each other.

        Windows and heads share an axis (one window where all are alike), so that one mask serves the batch.
        """
        index = relative_index(sides, self.window).to(x.device)
        bias_htt = self.bias[index.flatten()].view(*index.shape, self.heads).permute(2, 0, 1).to(x.dtype)
        seen_wtt = may_attend(grid, self.window, self.shifted)
        if seen_wtt is None:
            return bias_htt[None]
        seen_wtt = seen_wtt.to(x.device)
        return torch.where(seen_wtt[:, None], bias_htt, -torch.inf).flatten(0, 1)[None]

    def forward(self, x_bxyzd: Float[Tensor, "b x y z d"]) -> Float[Tensor, "b x y z d"]:
        """Features in, features out, on a grid of any sides."""
        b, *_, d = x_bxyzd.shape
        grid = sides_of(x_bxyzd.shape[1:4])
        sides, shifts, padded = window_layout(grid, self.window, self.shifted)
        if padded != grid:
            ends = [end for n, whole in zip(grid, padded, strict=True) for end in (whole - n, 0)]
            x_bxyzd = F.pad(x_bxyzd, [0, 0, *reversed(ends)])
        if any(shifts):
            x_bxyzd = x_bxyzd.roll([-shift for shift in shifts], dims=(1, 2, 3))
        x_bwtd = into_windows(x_bxyzd, sides)
        _, windows, places, _ = x_bwtd.shape
        q, k, v = self.qkv(x_bwtd).view(b, windows, places, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        mask = self._mask(grid, sides, q)
        if mask.shape[1] == self.heads:  # every window alike: windows join the batch
            q, k, v = (part.flatten(0, 1) for part in (q, k, v))
        else:
            q, k, v = (part.flatten(1, 2) for part in (q, k, v))
        mixed = attention(q, k, v, mask)
        mixed = mixed.view(b, windows, self.heads, places, -1).transpose(2, 3).reshape(b, windows, places, d)
        x_bxyzd = from_windows(self.out(mixed), sides, padded)
        if any(shifts):
            x_bxyzd = x_bxyzd.roll(shifts, dims=(1, 2, 3))
        return x_bxyzd[:, : grid[0], : grid[1], : grid[2]]
