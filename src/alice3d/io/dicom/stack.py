"""Stacks DICOM slices by position: order, gaps, gantry tilt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alice3d.geometry import Affine
from alice3d.io.volume import ScanError

GAP_SHARE = 0.02
"""Distances between slices may differ by this fraction, and by 0.02 mm, from rounding in the tags."""
LINE_MM = 0.1
"""Slices may lie this far off the straight line through them, and a tenth of a pixel."""
TILT_DEG = 0.1
"""A stack that leans by more is sheared; resampling corrects it, and a note says so."""


@dataclass(frozen=True)
class Slice:
    """One image of a series: its position, and where its pixels are stored.

    Attributes:
        file: that holds it.
        frame: its index in the file.
        position_mm: (3,) LPS, centre of its first pixel.
        axes: (6,) direction of growing columns, then of growing rows, LPS.
        spacing_mm: between rows, between columns.
        shape: rows, columns.
        slope, intercept: of the stored values.
        instance: identifier of the file's object, to detect copies; never shown.
    """

    file: Path
    frame: int
    position_mm: tuple[float, ...]
    axes: tuple[float, ...]
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    slope: float
    intercept: float
    instance: str


def stacked(slices: list[Slice], name: str) -> tuple[list[Slice], Affine, list[str]]:
    """Slices ordered by position, the affine (4, 4) of the stack to RAS mm, and notes.

    Raises:
        ScanError: slices missing, duplicate, at unequal gaps, of different kinds, or off a straight line.
    """
    if len(slices) < 2:
        raise ScanError(name, f"too thin: {len(slices)} slice is not a volume")
    first = slices[0]
    for other in slices:
        if other.shape != first.shape:
            raise ScanError(name, "slices of different sizes in one series")
        if not np.allclose(other.axes, first.axes, atol=1e-3):
            raise ScanError(name, "slices of different orientations in one series: a localiser?")
        if not np.allclose(other.spacing_mm, first.spacing_mm, rtol=1e-3):
            raise ScanError(name, "slices of different pixel spacing in one series")
    columns, rows = np.array(first.axes[:3]), np.array(first.axes[3:])
    normal = np.cross(columns, rows)
    if abs(np.linalg.norm(columns) - 1) > 0.01 or abs(np.linalg.norm(rows) - 1) > 0.01 or np.linalg.norm(normal) < 0.9:
        raise ScanError(name, "bad affine: ImageOrientationPatient holds no two perpendicular directions")
    normal /= np.linalg.norm(normal)
    heights = np.array([np.dot(piece.position_mm, normal) for piece in slices])
    order = np.argsort(heights, kind="stable")
    ordered = [slices[n] for n in order]
    _check_gaps(heights[order], name)
    places = np.array([piece.position_mm for piece in ordered])
    step = (places[-1] - places[0]) / (len(ordered) - 1)
    line = places[0] + np.arange(len(ordered))[:, None] * step
    if np.abs(places - line).max() > LINE_MM + 0.1 * min(first.spacing_mm):
        raise ScanError(name, f"slices do not lie on a straight line: up to {np.abs(places - line).max():.1f} mm off")
    tilt = np.degrees(np.arccos(np.clip(np.dot(step, normal) / np.linalg.norm(step), -1, 1)))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = columns * first.spacing_mm[1], rows * first.spacing_mm[0], step
    affine[:3, 3] = places[0]
    affine[:2] *= -1  # LPS to RAS
    return ordered, affine, [f"gantry tilt of {tilt:.1f} degrees, corrected"] if tilt > TILT_DEG else []


def _check_gaps(heights: NDArray[np.float64], name: str) -> None:
    """Refuse duplicate, missing and unequally spaced slices; `heights` (n,) mm, ascending."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    doubled = int((gaps < 0.01).sum())
    if doubled:
        raise ScanError(
            name, f"duplicated slices: {doubled} share a position with another; several volumes in one series?"
        )
    odd = np.flatnonzero(np.abs(gaps - usual) > np.maximum(GAP_SHARE * usual, 0.02))
    if len(odd):
        after, gap = int(odd[0]) + 1, float(gaps[odd[0]])
        multiple = gap / usual
        if multiple > 1.5 and abs(multiple - round(multiple)) < 0.05:
            raise ScanError(name, f"missing slices: {gap:g} mm after slice {after} where the spacing is {usual:g} mm")
        raise ScanError(name, f"unequal slice gaps: {gaps.min():g} to {gaps.max():g} mm")
