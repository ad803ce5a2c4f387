"""Samples of a classifier: views around points or of whole scans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.augmentation import change_intensity
from alice3d.data.sampling.crops import ViewSettings, random_matrix
from alice3d.data.store import Store
from alice3d.data.store.read_grid import read_grid
from alice3d.data.tables.classes import Example
from alice3d.geometry import Grid, centred_grid


@dataclass(frozen=True)
class FieldOfView:
    """Field of view: a box of `crop` voxels per side, of `voxel_mm` (3,) each, around a centre."""

    crop: int
    voxel_mm: tuple[float, float, float]

    def grid(self, centre_mm: NDArray[Any], matrix: NDArray[Any] | None = None) -> Grid:
        """The box around a centre (3,) RAS mm, along R, A, S or with voxel axes (3, 3) in mm."""
        return centred_grid(centre_mm, (self.crop,) * 3, np.diag(self.voxel_mm) if matrix is None else matrix)


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of a view; without `mirror` nothing is mirrored.

    Attributes:
        rotation_deg: maximum rotation about a random axis.
        scale: factor of the voxel size, log-uniform between the two.
        strength: of the intensity augmentation; 1 is that of pre-training, 0 none.
        shift: maximum shift of its centre along each axis, as a fraction of its side.
        mirror: flip left and right of every other view; wrong where a class is specific to one side.
    """

    rotation_deg: float = 15.0
    scale: tuple[float, float] = (0.85, 1.18)
    strength: float = 0.5
    shift: float = 0.05
    mirror: bool = False


class ClassificationSamples:
    """Sample i is one view, from a generator seeded with (seed, i): the same i gives the same sample.

    Classes take turns (sample i is of class i modulo their number), so that all classes are equally frequent.
    A sample holds (no batch axis): `image` (c, x, y, z) float32 and `label`, the index of its class.

    Args:
        store: of the scans.
        examples: at least one of each class.
        classes: names, in the order of the network's outputs.
        rule: how voxels become channels.
        field: field of view.
        augmentation: of the views.
        seed: of everything.
    """

    def __init__(
        self,
        *,
        store: Store,
        examples: list[Example],
        classes: tuple[str, ...],
        rule: IntensityRule,
        field: FieldOfView,
        augmentation: Augmentation,
        seed: int = 0,
    ) -> None:
        self.store, self.examples, self.classes, self.rule = store, examples, classes, rule
        self.field, self.augmentation, self.seed = field, augmentation, seed
        self.of_class = [[example for example in examples if example.name == name] for name in classes]
        self.views = ViewSettings(
            crop=field.crop,
            spacing_mm=field.voxel_mm,
            rotation_deg=augmentation.rotation_deg,
            scale=augmentation.scale,
        )

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, index])
        label = index % len(self.classes)
        members = self.of_class[label]
        return {"image": self.view(members[rng.integers(len(members))], rng), "label": np.int64(label)}

    def view(self, example: Example, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """Channels (c, x, y, z) of an example: without augmentation if there is no generator."""
        if rng is None:
            return read_grid(self.store, example.case, self.field.grid(example.centre_mm), self.rule)
        how = self.augmentation
        side_mm = self.field.crop * np.asarray(self.field.voxel_mm)
        centre_mm = example.centre_mm + rng.uniform(-1, 1, 3) * how.shift * side_mm
        matrix = random_matrix(self.views, rng)
        if how.mirror and rng.random() < 0.5:
            matrix[:, 0] *= -1
        image = read_grid(self.store, example.case, self.field.grid(centre_mm, matrix), self.rule)
        return change_intensity(image, how.strength, rng) if how.strength else image
