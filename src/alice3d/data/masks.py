"""Which patches an encoder sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_visible(
    grid: tuple[int, int, int], hidden_share: float, block: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw a mask that hides exactly round(hidden_share · n) of the n patches.

    Args:
        grid: patches along x, y, z.
        hidden_share: 0 to below 1; at least one patch stays visible.
        block: patches hide together in cubes of this side; 1 = each on its own.
        rng: where the randomness comes from.

    Returns:
        (n,) bool in x-major order, True = visible.
    """
    n = int(np.prod(grid))
    hidden = min(round(hidden_share * n), n - 1)
    offset = rng.integers(0, block, size=3)
    axes = [(np.arange(side) + shift) // block for side, shift in zip(grid, offset, strict=True)]
    counts = [int(axis[-1]) + 1 for axis in axes]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    of_block = rng.permutation(int(np.prod(counts)))[np.ravel_multi_index((x, y, z), tuple(counts))].ravel()
    order = np.lexsort((rng.random(n), of_block))  # whole blocks one after the other; the last one is cut at random
    visible = np.ones(n, bool)
    visible[order[:hidden]] = False
    return visible
