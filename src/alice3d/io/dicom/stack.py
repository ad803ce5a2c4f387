"""Stacks DICOM slices by position: order, gaps, gantry tilt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alice3d.geometry import Affine
from alice3d.io.volume import ScanError

EVEN_SHARE = 0.02
"""Slices may lie this fraction of their spacing off an even grid."""
ROUNDED_MM, ROUNDED_SHARE = 0.1, 0.2
"""They may lie this far off, and this fraction of their spacing, where positions were written with few decimals."""
SAME_MM = 0.01
"""Slices that are closer than this lie at one position."""
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
    """

    file: Path
    frame: int
    position_mm: tuple[float, ...]
    axes: tuple[float, ...]
    spacing_mm: tuple[float, float]
    shape: tuple[int, int]
    slope: float
    intercept: float


class Copies(Protocol):
    """What tells copies from contradicting slices: `copies.Contents`."""

    def without_copies(self, places: list[list[Slice]]) -> tuple[list[Slice], int]: ...


def stacked(slices: list[Slice], name: str, contents: Copies) -> tuple[list[Slice], Affine, list[str]]:
    """Slices ordered by position, the affine (4, 4) of the stack to RAS mm, and notes.

    Args:
        slices: of the series, in any order; of exact copies the first is kept.
        name: for messages.
        contents: compares the pixels of slices at one position.

    Raises:
        ScanError: slices missing, contradicting, at unequal gaps, of different kinds, or off a straight line.
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
    ordered, copies = contents.without_copies(_by_place(slices, normal, name))
    notes = [f"{copies} slices are exact copies of others (same position, same pixels), dropped"] if copies else []
    if len(ordered) < 2:
        raise ScanError(name, "too thin: 1 slice is not a volume, the others are copies of it")
    places = np.array([piece.position_mm for piece in ordered])
    start, step, note = _even_line(places, normal, name)
    line = start + np.arange(len(ordered))[:, None] * step
    if np.abs(places - line).max() > LINE_MM + 0.1 * min(first.spacing_mm):
        raise ScanError(name, f"slices do not lie on a straight line: up to {np.abs(places - line).max():.1f} mm off")
    tilt = np.degrees(np.arccos(np.clip(np.dot(step, normal) / np.linalg.norm(step), -1, 1)))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = columns * first.spacing_mm[1], rows * first.spacing_mm[0], step
    affine[:3, 3] = start
    affine[:2] *= -1  # LPS to RAS
    notes += [note] if note else []
    return ordered, affine, [*notes, *([f"gantry tilt of {tilt:.1f} degrees, corrected"] if tilt > TILT_DEG else [])]


def _by_place(slices: list[Slice], normal: NDArray[np.float64], name: str) -> list[list[Slice]]:
    """Slices of each position, by ascending height along the normal.

    Raises:
        ScanError: slices side by side in one plane.
    """
    heights = np.array([np.dot(piece.position_mm, normal) for piece in slices])
    order = np.argsort(heights, kind="stable")
    places: list[list[Slice]] = []
    for before, n in zip([None, *order], order, strict=False):
        piece = slices[n]
        if before is None or heights[n] - heights[before] >= SAME_MM:
            places.append([piece])
        elif np.abs(np.subtract(piece.position_mm, places[-1][0].position_mm)).max() >= 2 * SAME_MM:
            raise ScanError(name, "slices side by side in one plane; several volumes in one series?")
        else:
            places[-1].append(piece)
    return places


def _even_line(
    places: NDArray[np.float64], normal: NDArray[np.float64], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """First position and step (3,) of the even grid that positions (n, 3) lie on, and a note where they are rounded.

    Raises:
        ScanError: missing slices, or unequal gaps.
    """
    number = np.arange(len(places), dtype=np.float64)
    start, step = places[0], (places[-1] - places[0]) / (len(places) - 1)
    heights = places @ normal
    fit, first = (float(value) for value in np.polyfit(number, heights, 1))
    off = float(np.abs(heights - (first + fit * number)).max())
    if off > max(EVEN_SHARE * fit, min(ROUNDED_MM, ROUNDED_SHARE * fit)):
        raise ScanError(name, _uneven(heights))
    if off <= EVEN_SHARE * fit:
        return start, step, ""
    centred = number - number.mean()
    step = (centred @ (places - places.mean(axis=0))) / (centred @ centred)
    return places.mean(axis=0) - number.mean() * step, step, f"slice positions lie up to {off:.2g} mm off an even grid"


def _uneven(heights: NDArray[np.float64]) -> str:
    """The reason, with the place, why ascending heights (n,) in mm are no even grid."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    worst = int(np.argmax(np.abs(gaps - usual)))
    multiple = gaps[worst] / usual
    if multiple > 1.5 and abs(multiple - round(multiple)) < 0.2:
        return f"missing slices: {gaps[worst]:g} mm after slice {worst + 1} where the spacing is {usual:g} mm"
    return f"unequal slice gaps: {gaps.min():g} to {gaps.max():g} mm, the oddest after slice {worst + 1}"
