"""Which patches an encoder sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def hidden_patches(count: int, mask_ratio: float) -> int:
    """How many of `count` patches a mask hides: round(mask_ratio · count), but never all."""
    return min(round(mask_ratio * count), count - 1)


def draw_visible(
    grid: tuple[int, int, int], mask_ratio: float, block: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw a mask that hides exactly round(mask_ratio · n) of the n patches.

    Args:
        grid: patches along x, y, z.
        mask_ratio: 0 to below 1; at least one patch stays visible.
        block: block masking: patches are masked together in cubes of this side; 1 = each on its own.
        rng: where the randomness comes from.

    Returns:
        (n,) bool in x-major order, True = visible.
    """
    n = int(np.prod(grid))
    hidden = hidden_patches(n, mask_ratio)
    offset = rng.integers(0, block, size=3)
    axes = [(np.arange(side) + shift) // block for side, shift in zip(grid, offset, strict=True)]
    counts = [int(axis[-1]) + 1 for axis in axes]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    of_block = rng.permutation(int(np.prod(counts)))[np.ravel_multi_index((x, y, z), tuple(counts))].ravel()
    order = np.lexsort((rng.random(n), of_block))  # whole blocks one after the other; the last one is cut at random
    visible = np.ones(n, bool)
    visible[order[:hidden]] = False
    return visible


def draw_visible_regions(
    image: NDArray[np.float32], patch: int, mask_ratio: float, block: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw a mask that follows anatomy: patches that are near each other and alike are masked together.

    Each patch joins the one of a few random seeds that is nearest in place (in patches) and in intensity (mean and
    deviation of each channel, in standard deviations over the crop, counted as one patch each). Whole groups are masked
    one after the other, so a visible patch of the same organ seldom gives a hidden one away.

    Args:
        image: crop (c, x, y, z) without intensity changes.
        patch: voxels a side of a patch.
        mask_ratio: as in `draw_visible`, and met as exactly.
        block: groups hold about block³ patches.
        rng: where the randomness comes from.

    Returns:
        (n,) bool in x-major order, True = visible.
    """
    c, *sides = image.shape
    grid = [side // patch for side in sides]
    n = int(np.prod(grid))
    patches = image.reshape(c, grid[0], patch, grid[1], patch, grid[2], patch).transpose(1, 3, 5, 0, 2, 4, 6)
    values = patches.reshape(n, c, patch**3)
    look = np.concatenate([values.mean(-1), values.std(-1)], axis=1)
    look = (look - look.mean(0)) / (look.std(0) + 1e-6)
    place = np.stack(np.meshgrid(*(np.arange(side) for side in grid), indexing="ij"), axis=-1).reshape(n, 3)
    seeds = rng.choice(n, size=max(1, round(n / block**3)), replace=False)
    joint = np.concatenate([place, look], axis=1)
    group = np.square(joint[:, None] - joint[None, seeds]).sum(-1).argmin(1)
    rank = rng.permutation(len(seeds))[group]
    order = np.lexsort((rng.random(n), rank))
    visible = np.ones(n, bool)
    visible[order[: hidden_patches(n, mask_ratio)]] = False
    return visible


def draw_harder_visible(
    error: NDArray[np.floating[Any]], hidden: int, hardest: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Hide the patches that are hardest to reconstruct, and random ones (AnatoMask, Li et al., ECCV 2024, section 3).

    Args:
        error: (b, n) of each patch; equal errors are ordered at random.
        hidden: patches to hide in each row.
        hardest: share of the hidden ones that are the hardest; the rest is drawn among all others.
        rng: where the randomness comes from.

    Returns:
        (b, n) bool, True = visible; exactly `hidden` False in each row.
    """
    chosen = int(hidden * hardest)
    by_error = np.lexsort((rng.random(error.shape), -error), axis=1)
    rank = np.empty_like(by_error)
    np.put_along_axis(rank, by_error, np.arange(error.shape[1])[None].repeat(len(error), 0), axis=1)
    key = np.where(rank < chosen, -1.0, rng.random(error.shape))
    visible = np.ones(error.shape, bool)
    np.put_along_axis(visible, np.argsort(key, axis=1)[:, :hidden], False, axis=1)
    return visible
