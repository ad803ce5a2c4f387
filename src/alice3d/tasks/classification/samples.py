"""What a classifier reads: views around points or of whole scans."""

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
    """What a net sees of a scan: a box of `crop` voxels a side, of `voxel_mm` (3,) each, around a centre."""

    crop: int
    voxel_mm: tuple[float, float, float]

    def grid(self, centre_mm: NDArray[Any], matrix: NDArray[Any] | None = None) -> Grid:
        """The box around a centre (3,) RAS mm, along R, A, S or with voxel axes (3, 3) in mm."""
        return centred_grid(centre_mm, (self.crop,) * 3, np.diag(self.voxel_mm) if matrix is None else matrix)


@dataclass(frozen=True)
class Augmentation:
    """How a view differs from the scan; nothing mirrors unless `mirror` asks for it.

    Attributes:
        rotation_deg: it turns by up to this much about a random axis.
        scale: its voxels are this much larger, drawn log-uniformly between the two.
        strength: of the intensity changes; 1 is that of pre-training, 0 none.
        shift: its centre moves by up to this share of its side, along each axis.
        mirror: flip left and right of every other view; wrong where a class has a side.
    """

    rotation_deg: float = 15.0
    scale: tuple[float, float] = (0.85, 1.18)
    strength: float = 0.5
    shift: float = 0.05
    mirror: bool = False


class ClassificationSamples:
    """Sample i is one view, drawn from a generator seeded with (seed, i): the same i, the same sample.

    Classes take turns (sample i is of class i modulo their number), so that a rare one is seen as often as any other.
    A sample holds (no batch axis): `image` (c, x, y, z) float32 and `label`, the index of its class.

    Args:
        store: where the scans are.
        examples: at least one of each class.
        classes: names, in the order of the net's scores.
        rule: how voxels become channels.
        field: what is seen.
        augmentation: how views differ.
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
        """Channels (c, x, y, z) of an example: as the scan is without a generator, else augmented."""
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
