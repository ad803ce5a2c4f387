"""Random layouts of shapes painted twice with random intensities: samples that read no scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alice3d.data.sampling.augmentation import change_intensity
from alice3d.data.sampling.crop_sampler import WantedCrops
from alice3d.geometry import Grid


@dataclass(frozen=True)
class LayoutWants:
    """What a method wants of a layout.

    Attributes:
        shapes: fewest and most shapes of a layout, its background not counted.
        uniform: places are drawn uniformly over voxels, as published; off = in equal shares over labels.
    """

    shapes: tuple[int, int] = (20, 39)
    uniform: bool = False


def smooth_noise(side: int, scale: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random field (side, side, side) that changes over about `scale` voxels; mean 0, standard deviation about 1."""
    coarse = rng.standard_normal((max(2, side // scale + 2),) * 3).astype(np.float32)
    fine = ndimage.zoom(coarse, side / coarse.shape[0], order=1, grid_mode=True, mode="nearest")
    return np.asarray(fine / max(float(fine.std()), 1e-6), np.float32)


def add_shape(
    labels: NDArray[np.uint8], value: int, fields: list[NDArray[np.float32]], rng: np.random.Generator
) -> None:
    """Paint a warped superellipsoid: between a diamond and a box, stretched, turned, its surface uneven.

    Args:
        labels: (x, y, z), changed in place.
        value: of the shape.
        fields: smooth fields in the shape of `labels`; a moved copy of one makes the surface uneven.
        rng: where the randomness comes from.
    """
    side = labels.shape[0]
    axes, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    radius = np.exp(rng.uniform(np.log(0.06), np.log(0.35), 3)) * side
    centre = rng.uniform(0, side, 3)
    exponent = rng.choice([1.5, 2, 2, 2, 3, 6])
    field, moved = fields[rng.integers(len(fields))], rng.integers(0, side, 3)
    reach = 1.6 * radius.max()  # corners of a box lie at 1.73 of its half sides; the noise moves the surface further
    low = np.clip(np.floor(centre - reach), 0, side).astype(int)
    high = np.clip(np.ceil(centre + reach) + 1, 0, side).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    ends = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
    places = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1) - centre
    warp = field[np.ix_(*((along + by) % side for along, by in zip(ends, moved, strict=True)))]
    length = (np.abs(places @ axes / radius) ** exponent).sum(axis=-1) ** (1 / exponent)
    labels[box][length + 0.15 * warp < 1] = value


def draw_layout(side: int, shapes: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Labels (side, side, side) from 0, background; each shape is painted over those before.

    Two of three layouts end outside a ball with an uneven surface, and half of those have a rim that is a label.
    """
    labels = np.zeros((side,) * 3, np.uint8)
    fields = [smooth_noise(side, scale, rng) for scale in (4, 8, 16)]
    for value in range(1, int(rng.integers(shapes[0], shapes[1] + 1)) + 1):
        add_shape(labels, value, fields, rng)
    if rng.random() < 2 / 3:
        centre = side / 2 + rng.uniform(-0.25, 0.25, 3) * side
        places = np.stack(np.meshgrid(*(np.arange(side),) * 3, indexing="ij"), axis=-1)
        away = np.linalg.norm(places - centre, axis=-1) + 0.04 * side * smooth_noise(side, max(2, side // 6), rng)
        radius = rng.uniform(0.4, 0.6) * side
        rim = rng.integers(1, max(2, side // 24) + 1) if rng.random() < 0.5 else 0
        labels[away > radius] = 0
        labels[(away > radius - rim) & (away <= radius)] = int(labels.max()) + 1
    return labels


def paint(labels: NDArray[np.uint8], channels: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Channels (c, x, y, z) in about -1 .. 1: a mean and a texture a label, one bias field, gamma, blur and noise.

    Further channels are the first one seen through another curve, as windows of one scan are.
    """
    side = labels.shape[0]
    count = int(labels.max()) + 1
    mean, spread = rng.uniform(-1, 1, count), rng.uniform(0.02, 0.16, count)
    image = mean[labels] + spread[labels] * rng.standard_normal(labels.shape)
    image = image * (1 + 0.1 * smooth_noise(side, int(rng.integers(8, 33)), rng))
    if rng.random() < 0.3:  # thick slices along one axis
        axis, step = int(rng.integers(3)), int(rng.integers(2, 5))
        thick = ndimage.uniform_filter1d(image, step, axis=axis)
        image = np.repeat(np.take(thick, np.arange(0, side, step), axis=axis), step, axis=axis)
        image = np.take(image, np.arange(side), axis=axis)
    image = ndimage.gaussian_filter(image, rng.uniform(0, 0.8))
    seen = [image]
    for _ in range(channels - 1):
        low, width = rng.uniform(-1, 0), rng.uniform(0.5, 2)
        seen.append((image - low) * (2 / width) - 1)
    return change_intensity(np.clip(np.stack(seen), -1, 1).astype(np.float32), 1.0, rng)


class SyntheticLayouts(WantedCrops):
    """Sample i is one random layout, painted twice (anatomix, Dey et al., ICLR 2025, section 3); no scan is read.

    A sample holds (no batch axis): `first`, `second` (c, x, y, z), the same layout under two appearances; `points` (p,
    3) voxel indices, and `labels` (p,) the label at each. `affine_first` is that of voxels of the store's spacing.

    Args:
        wants: see `LayoutWants`.
        The other arguments are those of `CropSampler`; scans of the store are not read.
    """

    Wants: ClassVar[type[Any]] = LayoutWants
    views: ClassVar[tuple[str, ...]] = ("first", "second")
    reads_scans: ClassVar[bool] = False

    wants: LayoutWants

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, index])
        side, channels = self.settings.crop, self.rule.channels
        labels = draw_layout(side, self.wants.shapes, rng)
        points = self._points(labels, rng)
        affine = np.diag([*self.settings.spacing_mm, 1.0])
        case = self.cases[self.ids[0]]
        sample: dict[str, Any] = {"number": np.asarray(index, np.int64)}
        for name in self.views:
            sample[name] = paint(labels, channels, rng)
            sample |= self.located(name, case, Grid((side, side, side), affine))
        return {
            **sample,
            "points": points.astype(np.float32),
            "labels": labels[tuple(points.T)].astype(np.int64),
        }

    def _points(self, labels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.int64]:
        """Voxels (p, 3), in equal shares over the labels or uniform over voxels."""
        flat, count = labels.ravel(), self.settings.points
        if self.wants.uniform:
            chosen = rng.integers(flat.size, size=count)
        else:
            order = np.argsort(flat, kind="stable")
            values, start, number = np.unique(flat[order], return_index=True, return_counts=True)
            of = rng.integers(len(values), size=count)
            chosen = order[start[of] + (rng.random(count) * number[of]).astype(int)]
        return np.stack(np.unravel_index(chosen, labels.shape), axis=-1)
