"""Tools to paint the average torso: names of tissues and structures, dimensions, shapes on a grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alice3d.geometry import Grid, diagonal_affine

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

STRUCTURES = (
    "lung_right",
    "lung_left",
    "heart",
    "liver",
    "spleen",
    "kidney_right",
    "kidney_left",
    "vertebrae",
    "ribs",
    "aorta",
    "stomach",
    "bladder",
    "hips",
    "body",
)
"""Names of the label values 1, 2, ...; `body` is the tissue that belongs to no other structure."""

TISSUES = (
    *("air", "skin", "fat", "muscle", "mesentery", "bowel", "bowel_gas", "lung", "lung_vessel", "airway"),
    *("myocardium", "heart_blood", "artery", "vein", "liver", "liver_vessel", "spleen", "renal_cortex"),
    *("renal_medulla", "renal_sinus", "marrow", "cortical_bone", "disc", "spinal_canal", "cartilage"),
    *("stomach_wall", "stomach_content", "stomach_gas", "urine", "bile"),
)
TISSUE = {name: code for code, name in enumerate(TISSUES)}
LABEL = {name: value for value, name in enumerate(STRUCTURES, start=1)}

SPACING_MM = 2.5
LOW_MM, HIGH_MM = (-195.0, -132.5, -247.5), (195.0, 132.5, 247.5)

# Heights of the vertebrae in mm, T1 to T12 and L1 to L5, stacked downwards from SPINE_TOP_MM.
VERTEBRAE = tuple(f"T{n}" for n in range(1, 13)) + tuple(f"L{n}" for n in range(1, 6))
VERTEBRA_HEIGHTS_MM = np.concatenate([np.linspace(17, 25, 12), np.linspace(28, 32, 5)])
SPINE_TOP_MM = 242.0
VERTEBRA_CENTRES_MM = SPINE_TOP_MM - np.cumsum(VERTEBRA_HEIGHTS_MM) + VERTEBRA_HEIGHTS_MM / 2

AORTA: tuple[tuple[float, ...], ...] = (
    *((-8, 30, 92), (6, 28, 120), (4, 18, 148), (-10, -6, 160), (-22, -34, 145)),
    *((-24, -42, 110), (-20, -40, 40), (-14, -30, -30), (-9, -16, -90), (-5, -12, -140)),
)
STOMACH: tuple[tuple[float, ...], ...] = (
    *((-58, -8, 6), (-74, 12, -22), (-66, 40, -52), (-36, 56, -72), (-2, 52, -72), (14, 44, -62)),
)
"""Nodes of the centre lines, RAS mm of the template."""

ORGANS = {
    "heart": ((-24, 30, 62), (54, 43, 50)),
    "liver": ((66, 8, -22), (98, 84, 78)),
    "spleen": ((-102, -42, -16), (26, 40, 46)),
    "kidney_right": ((60, -42, -92), (27, 24, 50)),
    "kidney_left": ((-60, -46, -72), (27, 25, 52)),
    "bladder": ((0, 34, -208), (36, 31, 27)),
}
"""Centre and half axes of the ellipsoidal organs, RAS mm of the template."""


class Canvas:
    """Coordinates of the template's voxels, broadcastable, and the two maps being painted."""

    def __init__(self) -> None:
        axes = [np.arange(a, b + 1e-3, SPACING_MM).astype(np.float32) for a, b in zip(LOW_MM, HIGH_MM, strict=True)]
        self.x, self.y, self.z = np.meshgrid(*axes, indexing="ij", sparse=True)
        self.shape = (len(axes[0]), len(axes[1]), len(axes[2]))
        self.tissue = np.zeros(self.shape, np.uint8)
        self.label = np.zeros(self.shape, np.uint8)
        self._rng = np.random.default_rng(2302)  # the template is one fixed torso, so its texture is fixed too
        self.grid = Grid(self.shape, diagonal_affine((SPACING_MM,) * 3, np.asarray(LOW_MM)))

    def paint(self, where: Mask, tissue: str, label: str | None = None) -> None:
        """Set the tissue, and the label where one is given, of the voxels that are True in `where` (x, y, z)."""
        self.tissue[where] = TISSUE[tissue]
        if label is not None:
            self.label[where] = LABEL[label]

    def noise(self, length_mm: float) -> Array:
        """A smooth random field of unit variance with features of about `length_mm`."""
        step = max(length_mm / 3, SPACING_MM)  # sampled coarsely and interpolated: much faster
        coarse = [int(np.ceil((b - a) / step)) + 2 for a, b in zip(LOW_MM, HIGH_MM, strict=True)]
        field = ndimage.gaussian_filter(self._rng.standard_normal(coarse, np.float32), length_mm / step / 2)
        field /= field.std()
        out: Array = ndimage.affine_transform(
            field, [SPACING_MM / step] * 3, output_shape=self.shape, order=1, mode="nearest", output=np.float32
        )
        return out

    def ellipsoid(
        self, centre: tuple[float, ...], axes: tuple[float, ...], tilt: tuple[float, float] = (0, 0)
    ) -> Array:
        """Normalised radius (1 on the surface); `tilt` shears x and y with z, in mm per mm."""
        dz = self.z - centre[2]
        dx, dy = self.x - centre[0] - tilt[0] * dz, self.y - centre[1] - tilt[1] * dz
        radius: Array = np.sqrt((dx / axes[0]) ** 2 + (dy / axes[1]) ** 2 + (dz / axes[2]) ** 2)
        return radius

    def tube(self, points: tuple[tuple[float, ...], ...], radii: tuple[float, ...]) -> Array:
        """Distance in mm to the surface of a tube along `points`, negative inside; radii are interpolated from end to
        end."""
        distance = np.full(self.shape, 1e3, np.float32)
        nodes = np.asarray(points, np.float64)
        fine = np.linspace(0, len(nodes) - 1, 6 * len(nodes))
        smooth = np.stack([ndimage.map_coordinates(nodes[:, i], [fine], order=3, mode="nearest") for i in range(3)], 1)
        radius = np.interp(fine, np.linspace(0, len(nodes) - 1, len(radii)), radii)
        reach = max(radii) + 6
        for point, r in zip(smooth, radius, strict=True):
            box = tuple(
                slice(max(int((p - reach - low) / SPACING_MM), 0), int((p + reach - low) / SPACING_MM) + 2)
                for p, low in zip(point, LOW_MM, strict=True)
            )
            dx, dy, dz = self.x[box[0]] - point[0], self.y[:, box[1]] - point[1], self.z[:, :, box[2]] - point[2]
            distance[box] = np.minimum(distance[box], np.sqrt(dx**2 + dy**2 + dz**2) - np.float32(r))
        return distance


def along(z: Array, *knots: tuple[float, float]) -> Array:
    """Piecewise linear profile over height: knots are (z mm, value), in any order."""
    heights, values = zip(*sorted(knots), strict=True)
    out: Array = np.interp(z, heights, values).astype(np.float32)
    return out


def spine_y(z: NDArray[Any] | np.floating[Any]) -> Array:
    """Front-to-back position of the vertebral bodies' centres: kyphosis, lordosis, sacrum."""
    return along(
        np.asarray(z, np.float32), (245, -50), (120, -72), (0, -58), (-110, -46), (-170, -58), (-215, -84), (-248, -92)
    )


def cage(canvas: Canvas) -> tuple[Array, Array, Array]:
    """Half width, half depth and normalised radius of the rib cage's ellipse at each height."""
    width = along(canvas.z, (245, 52), (215, 78), (170, 112), (100, 134), (20, 142), (-70, 138), (-248, 138))
    depth = along(canvas.z, (245, 46), (215, 58), (170, 74), (100, 88), (20, 94), (-70, 90), (-248, 90))
    radius = np.sqrt((canvas.x / width) ** 2 + ((canvas.y + 4) / depth) ** 2)
    return width, depth, radius
