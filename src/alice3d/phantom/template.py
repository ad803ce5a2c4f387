"""The average torso that every generated patient is a deformation of: tissues, labels, texture and landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alice3d.geometry import Grid
from alice3d.phantom.canvas import (
    AORTA,
    LABEL,
    STOMACH,
    STRUCTURES,
    VERTEBRA_CENTRES_MM,
    VERTEBRAE,
    Array,
    Canvas,
    spine_y,
)
from alice3d.phantom.organs import paint_torso


@dataclass(frozen=True)
class Template:
    """The average torso on a grid of 2.5 mm, axes R, A, S, the origin in the upper abdomen."""

    tissue: NDArray[np.uint8]
    """(x, y, z) index into `TISSUES`."""
    label: NDArray[np.uint8]
    """(x, y, z) index into `STRUCTURES`, from 1; 0 is outside the body."""
    texture_hu: Array
    """(x, y, z) added to the tissue's HU; the same position in every patient has the same texture."""
    grid: Grid
    landmarks_mm: dict[str, NDArray[np.float64]]
    """Name to (3,) RAS mm of the template."""


@cache
def template() -> Template:
    """Build the average torso (a few seconds at first, then cached)."""
    canvas = Canvas()
    texture = paint_torso(canvas)
    return Template(canvas.tissue, canvas.label, texture, canvas.grid, _landmarks(canvas))


def _landmarks(canvas: Canvas) -> dict[str, NDArray[np.float64]]:
    """Centroids of the compact structures, and single anatomical points."""
    compact = [name for name in STRUCTURES if name not in ("vertebrae", "ribs", "aorta", "hips", "body", "stomach")]
    values = [LABEL[name] for name in compact]
    centres = ndimage.center_of_mass(np.ones(canvas.shape, np.uint8), canvas.label, values)
    marks = {name: canvas.grid.world(np.asarray(centre)) for name, centre in zip(compact, centres, strict=True)}
    for name in ("T4", "T8", "T12", "L3", "L5"):
        height = VERTEBRA_CENTRES_MM[VERTEBRAE.index(name)]
        marks[f"vertebra_{name}"] = np.array([0.0, float(spine_y(np.float32(height))), height])
    marks["aortic_arch"] = np.asarray(AORTA[3], np.float64)
    marks["aorta_bifurcation"] = np.asarray(AORTA[-1], np.float64)
    marks["stomach"] = np.asarray(STOMACH[2], np.float64)
    for side, sign in (("right", 1), ("left", -1)):
        marks[f"femoral_head_{side}"] = np.array([sign * 92.0, 6.0, -226.0])
    return marks
