"""Invertible smooth deformations: where each point of a generated patient lies in the average torso, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import BSpline

from alice3d.geometry import Grid, apply_affine

Points = NDArray[np.float64]
"""(..., 3) RAS mm."""

MAX_STEEPNESS = 0.95
"""Bound on the displacement's change per mm; below 1 the map is invertible, by fixed-point iteration."""


@dataclass(frozen=True)
class Deformation:
    """template = affine(point + displacement(point)), the displacement a cubic B-spline on a coarse lattice.

    Constructed by `bounded`, which keeps the displacement a contraction, so that the whole map is a diffeomorphism
    (Banach's fixed-point theorem) and its inverse is found to any accuracy by iteration.
    """

    affine: NDArray[np.float64]
    """(4, 4) to RAS mm of the template."""
    coefficients_mm: NDArray[np.float64]
    """(3, lx, ly, lz) control points of the displacement, RAS mm."""
    lattice: Grid
    """Positions of the control points, RAS mm of the patient."""

    @classmethod
    def bounded(cls, affine: NDArray[np.float64], coefficients_mm: NDArray[np.float64], lattice: Grid) -> Deformation:
        """Scale the control points down where needed so that the displacement's Lipschitz constant is <= 0.95."""
        steepness = cls(affine, coefficients_mm, lattice).steepness
        factor = min(1.0, MAX_STEEPNESS / max(steepness, 1e-9))
        return cls(affine, coefficients_mm * factor, lattice)

    @property
    def steepness(self) -> float:
        """Upper bound on the displacement's Lipschitz constant.

        A B-spline's derivative is a convex combination of its control points' differences, so their largest norm
        along each axis bounds the Jacobian's columns everywhere.
        """
        total = 0.0
        for axis, spacing in enumerate(self.lattice.spacing_mm, start=1):
            difference = np.diff(self.coefficients_mm, axis=axis) / spacing
            total += float((difference**2).sum(axis=0).max())
        return float(np.sqrt(total))

    def displacement(self, points_mm: Points) -> Points:
        """Displacement (..., 3) in mm at points of the patient; constant beyond the lattice."""
        points = np.asarray(points_mm, np.float64)
        index = self.lattice.index(points).reshape(-1, 3).T
        # Clamped explicitly: the same function as `displacement_on` inside, a contraction of space outside.
        index = np.clip(index, 1, np.asarray(self.lattice.shape)[:, None] - 2)
        parts = [
            ndimage.map_coordinates(c, index, order=3, prefilter=False, mode="nearest") for c in self.coefficients_mm
        ]
        return np.stack(parts, axis=-1).reshape(points.shape)

    def displacement_on(self, axes_mm: tuple[NDArray[np.float64], ...]) -> NDArray[np.float32]:
        """Displacement (3, x, y, z) on the grid spanned by three axes of RAS coordinates; separable, hence fast."""
        field = self.coefficients_mm
        for axis, coordinates in enumerate(axes_mm):
            count = self.lattice.shape[axis]
            index = (coordinates - self.lattice.affine[axis, 3]) / self.lattice.affine[axis, axis]
            basis = BSpline.design_matrix(np.clip(index, 1, count - 2), np.arange(-2, count + 2, dtype=float), 3)
            field = np.moveaxis(np.tensordot(basis.toarray(), field, axes=(1, axis + 1)), 0, axis + 1)
        return field.astype(np.float32)

    def forward(self, points_mm: Points) -> Points:
        """Points (..., 3) of the patient to the template."""
        points = np.asarray(points_mm, np.float64)
        return apply_affine(self.affine, points + self.displacement(points))

    def inverse(self, points_mm: Points, tolerance_mm: float = 1e-4) -> Points:
        """Points (..., 3) of the template to the patient, by fixed-point iteration."""
        target = apply_affine(np.linalg.inv(self.affine).astype(np.float64), np.asarray(points_mm, np.float64))
        points = target
        for _ in range(100):
            better = target - self.displacement(points)
            change = float(np.abs(better - points).max(initial=0.0))
            points = better
            if change < tolerance_mm:
                break
        return points
