"""Generated patients: torso-like CT volumes whose labels, landmarks and correspondences are known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alice3d.geometry import Grid, centred_grid, diagonal_affine
from alice3d.phantom.canvas import LABEL, ORGANS, STOMACH, TISSUES
from alice3d.phantom.deformation import Deformation, Points
from alice3d.phantom.template import template

LATTICE_MM = 24.0
LABEL_NAMES = {value: name for name, value in LABEL.items()}
"""Label value to structure, 0 (outside the body) left out."""


@dataclass(frozen=True)
class Phantom:
    """One generated patient, scanned."""

    name: str
    image: NDArray[np.int16]
    """(i, j, k) Hounsfield units, in the orientation of `grid`."""
    labels: NDArray[np.uint8]
    """(i, j, k) values of `LABEL_NAMES`; 0 outside the body."""
    grid: Grid
    """Axes are a signed permutation of R, A, S; the affine is true."""
    deformation: Deformation
    landmarks_mm: dict[str, NDArray[np.float64]]
    """Name to (3,) RAS mm, the same anatomical point in every patient; those outside the scan are left out."""

    def to_template(self, points_mm: Points) -> Points:
        """Points (..., 3), RAS mm, of this patient to the average torso."""
        return self.deformation.forward(points_mm)

    def from_template(self, points_mm: Points) -> Points:
        """Points (..., 3), RAS mm, of the average torso to this patient; inverse of `to_template` within 0.001 mm."""
        return self.deformation.inverse(points_mm)


def correspond(query: Phantom, key: Phantom, points_mm: Points) -> Points:
    """Where the anatomy at points (..., 3) of `query` lies in `key`; both RAS mm. Exact, and its own inverse."""
    return key.from_template(query.to_template(points_mm))


def make_phantom(
    rng: np.random.Generator,
    *,
    name: str = "phantom",
    spacing_mm: tuple[float, float] = (3.6, 4.4),
    coverage: tuple[float, float] = (0.7, 0.96),
) -> Phantom:
    """Generate one patient and scan it.

    Args:
        rng: the only source of randomness.
        name: case id.
        spacing_mm: smallest and largest voxel size; in-plane and slice spacing are sampled separately.
        coverage: smallest and largest fraction of the torso's length that is scanned, within 0.1 to 0.97.
    """
    deformation = _draw_deformation(rng)
    grid = _draw_field_of_view(rng, deformation, spacing_mm, coverage)
    tissue_hu = _draw_tissues(rng)
    axes = tuple(grid.affine[i, 3] + grid.affine[i, i] * np.arange(grid.shape[i]) for i in range(3))
    image, labels = _render(rng, deformation, axes, tissue_hu, grid.spacing_mm)
    image, labels, grid = _reorient(rng, image, labels, grid)
    landmarks = {key: deformation.inverse(point) for key, point in template().landmarks_mm.items()}
    landmarks = {key: point for key, point in landmarks.items() if grid.contains(point, margin_voxels=-1)}
    return Phantom(name, image, labels, grid, deformation, landmarks)


def _draw_deformation(rng: np.random.Generator) -> Deformation:
    """Stature, posture, size and position of each organ, and a smooth field everywhere."""
    size = rng.uniform([0.86, 0.84, 0.90], [1.14, 1.16, 1.10])
    angles = np.deg2rad(rng.normal(0, [2.0, 3.0, 3.0]))
    origin = rng.uniform([-40, -60, -150], [40, 60, 150])
    rotation = _rotation(angles)
    patient_from_template: NDArray[np.float64] = np.eye(4)  # x_patient = rotation · size · x_template + origin
    patient_from_template[:3, :3] = rotation @ np.diag(size)
    patient_from_template[:3, 3] = origin
    low, high = np.array([-190.0, -130.0, -245.0]) * 1.25, np.array([190.0, 130.0, 245.0]) * 1.25
    counts = np.ceil((high - low) / LATTICE_MM).astype(int) + 5
    lattice_affine = diagonal_affine((LATTICE_MM,) * 3, origin + (low + high) / 2 - (counts - 1) / 2 * LATTICE_MM)
    lattice = Grid((int(counts[0]), int(counts[1]), int(counts[2])), lattice_affine)
    nodes = lattice.world(np.stack(np.meshgrid(*[np.arange(n) for n in lattice.shape], indexing="ij"), axis=-1))
    field = np.zeros((3, *lattice.shape))
    for length_mm, amplitude_mm in ((110.0, 9.0), (55.0, 3.0)):
        rough = rng.standard_normal(field.shape)
        smooth = ndimage.gaussian_filter(rough, (0, *(length_mm / 2 / LATTICE_MM,) * 3), mode="reflect")
        field += amplitude_mm * smooth / smooth.std(axis=(1, 2, 3), keepdims=True)
    centres = {**{organ: shape[0] for organ, shape in ORGANS.items()}, "stomach": STOMACH[2]}
    for centre in centres.values():
        away = nodes - (patient_from_template[:3, :3] @ np.asarray(centre) + origin)
        window = np.exp(-((away / 46.0) ** 2).sum(axis=-1) / 2)
        shift, growth = rng.normal(0, [5.0, 4.0, 7.0]), rng.normal(0, 0.13, 3)
        field += np.moveaxis(window[..., None] * (shift + growth * away), -1, 0)
    breath = np.exp(-(((nodes[..., 2] - origin[2] - 10 * size[2]) / 60.0) ** 2) / 2)
    field[2] += rng.normal(0, 10.0) * breath
    return Deformation.bounded(np.linalg.inv(patient_from_template).astype(np.float64), field, lattice)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation (3, 3) about x, then y, then z, in radians."""
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out


def _draw_field_of_view(
    rng: np.random.Generator, deformation: Deformation, spacing_mm: tuple[float, float], coverage: tuple[float, float]
) -> Grid:
    """A box around the body: loose margins in plane, and from somewhere in the chest to somewhere in the pelvis."""
    inside = np.argwhere(template().label[::6, ::6, ::6] > 0) * 6
    body = deformation.inverse(template().grid.world(inside))
    low, high = body.min(axis=0) - rng.uniform(4, 40, 3), body.max(axis=0) + rng.uniform(4, 40, 3)
    length = body[:, 2].max() - body[:, 2].min()
    kept = length * rng.uniform(*coverage)
    low[2] = body[:, 2].min() + rng.uniform(0.15, 0.85) * (length - kept)
    high[2] = low[2] + kept
    in_plane, slices = rng.uniform(*spacing_mm, 2)
    spacing = np.array([in_plane, in_plane, slices])
    shape = np.maximum(((high - low) / spacing).astype(int), 8)
    return centred_grid((low + high) / 2, (int(shape[0]), int(shape[1]), int(shape[2])), np.diag(spacing))


def _draw_tissues(rng: np.random.Generator) -> NDArray[np.float32]:
    """(tissues,) HU of each tissue: this patient's phase of contrast, liver fat, bone density, stomach filling."""
    contrast, phase, bone = rng.uniform(0.2, 1.0), rng.uniform(0, 1), rng.uniform(0.75, 1.25)
    filling = rng.choice([-900.0, 15.0, 140.0])  # gas, water or oral contrast where the stomach's gas stands
    values = {
        "air": -1000, "skin": 10, "fat": -105, "muscle": 52 + 8 * contrast, "mesentery": -88,
        "bowel": 35 + 15 * contrast, "bowel_gas": -820, "lung": rng.uniform(-870, -770), "airway": -985,
        "lung_vessel": 20 + 60 * contrast, "myocardium": 45 + 60 * contrast, "heart_blood": 45 + 120 * contrast,
        "artery": 42 + contrast * (190 - 70 * phase), "vein": 42 + contrast * (70 + 50 * phase),
        "liver": rng.uniform(38, 62) + 50 * contrast * phase, "liver_vessel": 50 + 110 * contrast * phase,
        "spleen": 48 + contrast * (80 - 20 * phase), "renal_cortex": 36 + 150 * contrast,
        "renal_medulla": 32 + contrast * (40 + 80 * phase), "renal_sinus": -30, "marrow": 190 * bone,
        "cortical_bone": 560 * bone, "disc": 85, "spinal_canal": 28, "cartilage": 105,
        "stomach_wall": 40 + 30 * contrast, "stomach_content": rng.uniform(0, 40), "stomach_gas": filling,
        "urine": rng.uniform(0, 15), "bile": rng.uniform(0, 15),
    }  # fmt: skip
    return np.array([values[name] for name in TISSUES], np.float32)


def _render(
    rng: np.random.Generator,
    deformation: Deformation,
    axes_mm: tuple[NDArray[np.float64], ...],
    tissue_hu: NDArray[np.float32],
    spacing_mm: NDArray[np.float64],
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Image and labels on the grid of three RAS axes: the template read through the deformation, with noise."""
    torso = template()
    points = deformation.displacement_on(axes_mm)
    for axis in range(3):
        points[axis] += axes_mm[axis].astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    to_index = np.linalg.inv(torso.grid.affine) @ deformation.affine
    index = np.tensordot(to_index[:3, :3].astype(np.float32), points, axes=1)
    index += to_index[:3, 3].astype(np.float32)[:, None, None, None]
    blur = 0.42 * spacing_mm / torso.grid.spacing_mm  # the scanner's resolution: about one voxel, whole at half maximum
    sharp = tissue_hu[torso.tissue] + torso.texture_hu * rng.uniform(0.7, 1.2)
    sharp = ndimage.gaussian_filter(sharp, blur, mode="nearest", truncate=2.5)
    image = ndimage.map_coordinates(sharp, index, order=1, mode="nearest", output=np.float32)
    labels: NDArray[np.uint8] = ndimage.map_coordinates(torso.label, index, order=0, mode="nearest")
    own = ndimage.gaussian_filter(rng.standard_normal(image.shape, np.float32), 14.0 / spacing_mm)
    image += (labels > 0) * own * (10.0 / own.std())  # what differs between patients at the same position
    grain = ndimage.gaussian_filter(rng.standard_normal(image.shape, np.float32), 0.45)
    image += grain * (rng.uniform(8, 20) / grain.std())
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16), labels


def _reorient(
    rng: np.random.Generator, image: NDArray[np.int16], labels: NDArray[np.uint8], grid: Grid
) -> tuple[NDArray[np.int16], NDArray[np.uint8], Grid]:
    """Store the voxels in one of the orders that scanners and converters use; the affine says which."""
    order, flips = [((0, 1, 2), ""), ((0, 1, 2), "xy"), ((0, 1, 2), "x"), ((0, 1, 2), "xyz"), ((1, 0, 2), "yz")][
        int(rng.integers(5))
    ]
    start = [grid.shape[i] - 1 if "xyz"[i] in flips else 0 for i in range(3)]
    signs = np.array([-1.0 if "xyz"[i] in flips else 1.0 for i in range(3)])
    affine = np.eye(4)
    affine[:3, :3] = (grid.affine[:3, :3] * signs)[:, order]
    affine[:3, 3] = grid.world(np.array(start))
    cut = tuple(slice(None, None, int(sign)) for sign in signs)
    turned = np.ascontiguousarray(image[cut].transpose(order)), np.ascontiguousarray(labels[cut].transpose(order))
    nx, ny, nz = turned[0].shape
    return *turned, Grid((nx, ny, nz), affine)
