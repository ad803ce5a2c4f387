"""Where any point of one patient lies in another: a robust affine and a smooth field fitted to matched points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alice3d.geometry import Affine, Grid, apply_affine, diagonal_affine

Points = NDArray[np.float64]

MIN_ROWS = 12
"""An affine has 12 parameters; with fewer than 12 points outliers cannot be identified."""
HYPOTHESES = 300
"""With half of the points wrong, one sample of four in 16 is free of outliers; 300 samples almost surely contain
one."""
MIN_VOLUME_MM3 = 1e4
"""Determinant of four points in mm³ (six times the volume of their tetrahedron) below which they are degenerate."""
AFFINE_MM = 20.0
"""Residual of the affine at which a point has weight 1/4; differences in posture are about as large."""
FIELD_MM = 12.0
"""Residual of the smooth field at which a point has weight 1/4."""
RIDGE = 1e-3
"""Regularisation of the affine's linear part towards isotropic scaling, relative to the points' variance."""
PRIOR = 0.5
"""Weight of `no displacement` in the smooth field, in points: where points are few, the affine dominates."""
SUPPORT = 1.5
"""Weighted number of points within the field's reach at which the support term of the certainty is 0.5."""
SPREAD_MM = 14.0
"""Local scatter of the points about the field at which certainty is halved."""


@dataclass(frozen=True, eq=False)
class Correspondence:
    """The map from one scan to another, sampled on a coarse grid so that thousands of points take about 1 ms.

    Attributes:
        affine: (4, 4) query RAS mm to key RAS mm.
        lattice: grid in the query's space on which the field is kept.
        field_mm: (3, x, y, z) displacement in the key's space, added to the affine.
        lattice_certainty: (x, y, z) certainty 0 .. 1.
    """

    affine: Affine
    lattice: Grid
    field_mm: NDArray[np.float32]
    lattice_certainty: NDArray[np.float32]

    def map(self, points_mm: NDArray[Any]) -> Points:
        """Points (n, 3) of the query to where their anatomy lies in the key; both RAS mm."""
        points = np.asarray(points_mm, np.float64)
        return apply_affine(self.affine, points) + self._read(self.field_mm, points)

    def certainty(self, points_mm: NDArray[Any]) -> NDArray[np.float64]:
        """Certainty of the map at points (n, 3): 0 (no accepted point near, or they disagree) .. 1."""
        return self._read(self.lattice_certainty[None], np.asarray(points_mm, np.float64))[:, 0]

    def local_affine(self, points_mm: NDArray[Any]) -> NDArray[np.float64]:
        """Jacobian (n, 3, 3) of `map` at points (n, 3): column j is the key's move for 1 mm along query axis j."""
        points = np.asarray(points_mm, np.float64)
        step = float(self.lattice.spacing_mm[0]) / 2
        offsets = step * np.concatenate([np.eye(3), -np.eye(3)])
        moved = self.map((points[:, None] + offsets).reshape(-1, 3)).reshape(len(points), 2, 3, 3)
        columns: NDArray[np.float64] = (moved[:, 0] - moved[:, 1]) / (2 * step)
        return columns.transpose(0, 2, 1)

    def _read(self, channels: NDArray[np.float32], points: Points) -> Points:
        """Trilinear interpolation (n, c) of channels (c, x, y, z) on the lattice; outside, its border value."""
        index = self.lattice.index(points).T
        values = [ndimage.map_coordinates(c, index, order=1, mode="nearest", output=np.float64) for c in channels]
        return np.stack(values, axis=-1)


def local_linear(field: Correspondence, point_mm: NDArray[Any]) -> NDArray[np.float64]:
    """How a crop around a query point (3,) lies in the key: the (3, 3) linear map of the crop's voxel axes, in mm.

    The map's Jacobian there; the identity where no body can be stretched so (`plausible`).
    """
    jacobian: NDArray[np.float64] = field.local_affine(np.asarray(point_mm, np.float64)[None])[0]
    return jacobian if plausible(jacobian) else np.eye(3)


def robust_weight(residual_mm: NDArray[Any], scale_mm: float) -> NDArray[np.float64]:
    """Geman-McClure weight 1 / (1 + (r / scale)²)²: 1 at 0, 1/4 at `scale_mm`, near 0 for gross errors."""
    weight: NDArray[np.float64] = 1.0 / (1.0 + (np.asarray(residual_mm, np.float64) / scale_mm) ** 2) ** 2
    return weight


def _weighted_affine(query: Points, key: Points, weight: NDArray[np.float64]) -> Affine:
    """Least squares with a weak regularisation of the linear part towards uniform scaling: a slab of points is
    enough."""
    total = weight.sum()
    centre_q, centre_k = weight @ query / total, weight @ key / total
    q, k = query - centre_q, key - centre_k
    spread = float((weight @ q**2).sum())
    scale = float((weight @ (q * k)).sum()) / max(spread, 1e-9)
    scale = float(np.clip(scale, 0.5, 2.0))
    ridge = RIDGE * spread / 3 + 1e-9
    normal = (q * weight[:, None]).T @ q + ridge * np.eye(3)
    linear = np.linalg.solve(normal, (q * weight[:, None]).T @ k + ridge * scale * np.eye(3)).T
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = centre_k - linear @ centre_q
    return affine


def plausible(affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether an affine (..., 4, 4) is plausible between two bodies: no reflection, scaling of 0.5 to 2 in every
    direction."""
    linear = affine[..., :3, :3]
    stretch = np.linalg.svd(linear, compute_uv=False)
    fits: NDArray[np.bool_] = (np.linalg.det(linear) > 0) & (stretch.min(axis=-1) > 0.5) & (stretch.max(axis=-1) < 2.0)
    return fits


def _best_hypothesis(query: Points, key: Points, weight: NDArray[np.float64], rng: np.random.Generator) -> Affine:
    """The affine through four sampled points, or the least squares of all, with the smallest robust cost (RANSAC)."""
    drawn = rng.choice(len(query), (HYPOTHESES, 4), p=weight / weight.sum())
    ones = np.ones((HYPOTHESES, 4, 1))
    corners = np.concatenate([query[drawn], ones], axis=2)
    solvable = np.abs(np.linalg.det(corners)) > MIN_VOLUME_MM3
    affines = np.zeros((int(solvable.sum()) + 1, 4, 4))
    affines[:, 3, 3] = 1
    affines[:-1, :3] = np.linalg.solve(corners[solvable], key[drawn[solvable]]).transpose(0, 2, 1)
    affines[-1] = _weighted_affine(query, key, weight)
    affines = affines[plausible(affines)]
    affines = np.concatenate([affines, _translation(query, key)[None]])
    mapped = query @ affines[:, :3, :3].transpose(0, 2, 1) + affines[:, None, :3, 3]
    square = ((mapped - key) ** 2).sum(axis=-1) / AFFINE_MM**2
    cost = (square / (1 + square)) @ weight
    best: Affine = affines[int(np.argmin(cost))]
    return best


def _translation(query: Points, key: Points) -> Affine:
    return diagonal_affine((1.0, 1.0, 1.0), np.median(key - query, axis=0))


def robust_affine(query_mm: NDArray[Any], key_mm: NDArray[Any], weight: NDArray[Any] | None = None) -> Affine:
    """The affine that most of the matched points agree on (seeded samples of four, then reweighted least squares).

    Args:
        query_mm, key_mm: (n, 3) matched points; up to half of them may be wrong.
        weight: (n,) prior weight of each.

    Raises:
        ValueError: fewer than `MIN_ROWS` points.
    """
    query, key = np.asarray(query_mm, np.float64), np.asarray(key_mm, np.float64)
    if len(query) < MIN_ROWS:
        raise ValueError(f"an affine needs {MIN_ROWS} matched points, got {len(query)}")
    prior = np.ones(len(query)) if weight is None else np.asarray(weight, np.float64) + 1e-6
    affine = _best_hypothesis(query, key, prior, np.random.default_rng(0))
    for _ in range(10):
        residual = np.linalg.norm(apply_affine(affine, query) - key, axis=1)
        better = _weighted_affine(query, key, prior * robust_weight(residual, AFFINE_MM))
        if not plausible(better):
            break
        affine = better
    return affine


def _kernel(points: Points, reach_mm: float) -> NDArray[np.float32]:
    """Gaussian (n, n) of the distances between points, zero on the diagonal: leave-one-out."""
    x = (points - points.mean(axis=0)).astype(np.float32)
    square = (x**2).sum(axis=1)
    kernel: NDArray[np.float32] = np.exp((x @ x.T - square[:, None] / 2 - square / 2) / reach_mm**2)
    np.fill_diagonal(kernel, 0.0)
    return kernel


def fit_correspondence(
    query_mm: NDArray[Any], key_mm: NDArray[Any], weight: NDArray[Any] | None = None, *, reach_mm: float = 25.0
) -> tuple[Correspondence, NDArray[np.float64]]:
    """Fit the map through matched points, up to half of which may be wrong.

    A robust affine models pose and size; its residuals are smoothed with a Gaussian of `reach_mm`, each point
    weighted by how well its neighbours predict it (moving least squares of order 0, reweighted).

    Args:
        query_mm, key_mm: (n, 3) matched points, RAS mm.
        weight: (n,) prior weight of each.
        reach_mm: standard deviation of the smoothing.

    Returns:
        the map, and each row's distance (n,) in mm from the prediction of the *other* rows.

    Raises:
        ValueError: fewer than `MIN_ROWS` points.
    """
    query, key = np.asarray(query_mm, np.float64), np.asarray(key_mm, np.float64)
    prior = np.ones(len(query)) if weight is None else np.asarray(weight, np.float64)
    affine = robust_affine(query, key, prior)
    left = key - apply_affine(affine, query)
    row_weight = prior * robust_weight(np.linalg.norm(left, axis=1), 1.5 * AFFINE_MM)
    kernel = _kernel(query, reach_mm)
    for _ in range(4):
        sums = kernel @ np.column_stack([row_weight, row_weight[:, None] * left]).astype(np.float32)
        smooth = sums[:, 1:] / (sums[:, :1] + PRIOR)
        distance = np.linalg.norm(left - smooth, axis=1)
        row_weight = prior * robust_weight(distance, FIELD_MM)
    return _on_lattice(affine, query, left, row_weight, distance, reach_mm), distance


def _on_lattice(
    affine: Affine,
    query: Points,
    left: Points,
    row_weight: NDArray[np.float64],
    distance: NDArray[np.float64],
    reach_mm: float,
) -> Correspondence:
    """Gaussian sums of residuals, weights and squared scatter on a lattice of half the reach; separable and exact."""
    spacing, margin = reach_mm / 2, 2.5 * reach_mm
    low, high = query.min(axis=0) - margin, query.max(axis=0) + margin
    counts = np.ceil((high - low) / spacing).astype(int) + 1
    nx, ny, nz = (int(n) for n in counts)
    lattice = Grid((nx, ny, nz), diagonal_affine((spacing,) * 3, low))
    kernels = [
        np.exp(-0.5 * ((low[a] + spacing * np.arange(counts[a]))[:, None] - query[:, a]) ** 2 / reach_mm**2).astype(
            np.float32
        )
        for a in range(3)
    ]
    plane = (kernels[1][:, None] * kernels[2][None]).reshape(ny * nz, -1)  # (yz, n)
    # Scatter is clipped at 10⁴ mm²: gross errors keep a small weight and must not dominate.
    scatter = np.minimum(distance, 3 * FIELD_MM) ** 2
    residuals = (row_weight * left[:, a] for a in range(3))
    columns = np.stack([row_weight, row_weight * scatter, *residuals]).astype(np.float32)
    sums = ((columns[:, None] * kernels[0][None]).reshape(5 * nx, -1) @ plane.T).reshape(5, nx, ny, nz)
    total = sums[0]
    spread2 = sums[1] / np.maximum(total, 1e-6)
    certainty = total / (total + SUPPORT) / (1 + spread2 / SPREAD_MM**2)
    return Correspondence(affine, lattice, sums[2:] / (total + np.float32(PRIOR)), certainty.astype(np.float32))
