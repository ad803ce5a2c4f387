"""Where a crop lies: its size, its random rotation and scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alice3d.geometry import Grid


@dataclass(frozen=True)
class ViewSettings:
    """How crops are drawn.

    Attributes:
        crop: voxels a side.
        spacing_mm: (3,) voxel size of the crops before scaling.
        rotation_deg: each view is rotated by up to this much about a random axis.
        scale: each view's voxels are this much larger, drawn log-uniformly between the two.
        shift: centres of two views of one scan differ by up to this share of the crop's side.
        strength: of the intensity changes; 1 is the usual, 0 none.
        points: corresponding points a pair.
        candidates: points of each crop that serve as negatives.
        matched_share: share of the samples that are matched pairs where a table is given; the rest is within one scan.
        local_affine: take the key crop of a matched pair in the query's orientation and scale, as the pair's map says,
            instead of moving it alone; random rotation and scaling come on top.
    """

    crop: int = 64
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0)
    rotation_deg: float = 15.0
    scale: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.25
    strength: float = 1.0
    points: int = 256
    candidates: int = 2048
    matched_share: float = 1.0
    local_affine: bool = False


def random_matrix(settings: ViewSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """Voxel axes (3, 3) in mm of one view: a random rotation and scaling, never a mirror image."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    angle = np.deg2rad(rng.uniform(-settings.rotation_deg, settings.rotation_deg))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross  # Rodrigues' formula
    low, high = settings.scale
    scale = np.exp(rng.uniform(np.log(low), np.log(high)))
    matrix: NDArray[np.float64] = rotation @ np.diag(settings.spacing_mm) * scale
    return matrix


def overlap_share(one: Grid, other: Grid, points: int = 8) -> float:
    """Share of a crop's volume that another one of the same scan holds, counted on `points`³ places."""
    sides = [(np.arange(points) + 0.5) / points * n - 0.5 for n in one.shape]
    places = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)
    return float(other.contains(one.world(places)).mean())
