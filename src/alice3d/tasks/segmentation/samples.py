"""Samples for segmentation: crops around every structure in turn, rotated, scaled and intensity-augmented, with
labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.preprocessing.labels import IGNORED
from alice3d.data.sampling.augmentation import change_intensity
from alice3d.data.sampling.crops import ViewSettings, random_matrix
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import read_grid, read_label_grid
from alice3d.errors import UserError
from alice3d.geometry import centred_grid

PLACES = 512
"""Maximum number of voxels per structure and case that are kept as centres of crops, to bound memory."""


@dataclass(frozen=True)
class CropSettings:
    """How crops are sampled.

    Attributes:
        crop: voxels per side.
        spacing_mm: (3,) voxel size before scaling.
        rotation_deg: maximum rotation of a crop about a random axis.
        scale: factor of a crop's voxel size, log-uniform between the two.
        strength: of the intensity augmentation; 1 is that of pre-training, 0 none.
        shift: maximum distance of a crop's centre from the structure's voxel along each axis, as a fraction of its
            side.
        anywhere: fraction of the crops at random positions in the body instead: they show background.
        mirror: flip left and right of every other crop; wrong where a structure is specific to one side.
    """

    crop: int = 32
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0)
    rotation_deg: float = 15.0
    scale: tuple[float, float] = (0.8, 1.25)
    strength: float = 1.0
    shift: float = 0.25
    anywhere: float = 0.2
    mirror: bool = False


def class_values(cases: list[Case]) -> tuple[int, ...]:
    """Label value of each class in the cases' references; the first is 0, background."""
    return (0, *sorted({value for case in cases for value in case.structures}))


def contoured_classes(case: Case, values: tuple[int, ...]) -> NDArray[np.bool_]:
    """(k,) True = this class was contoured in the case, or looked for and not found; always for background.

    A structure that a reference lacks was not contoured; where it has none at all the case is healthy, and every
    structure was looked for.
    """
    return np.array([value == 0 or case.healthy or value in case.structures for value in values])


def classes_of(labels_xyz: NDArray[Any], values: tuple[int, ...]) -> NDArray[np.int64]:
    """Label values (x, y, z) to class indices; a value without a class becomes background, `IGNORED` stays."""
    order = np.argsort(values)
    ranked = np.asarray(values)[order]
    at = np.clip(np.searchsorted(ranked, labels_xyz), 0, len(ranked) - 1)
    classes: NDArray[np.int64] = np.where(ranked[at] == labels_xyz, order[at], 0)
    classes[labels_xyz == IGNORED] = IGNORED
    return classes


class SegmentationSamples:
    """Sample i is one crop, from a generator seeded with (seed, i): the same i gives the same sample.

    Structures take turns (sample i is centred on structure i modulo their number), so that all structures are equally
    frequent; the case is sampled among those that have it. Healthy cases are seen in the crops at random positions.

    A sample holds (no batch axis): `image` (c, x, y, z) float32; `labels` (x, y, z) int64, class indices or
    `IGNORED`; `contoured` (k,) bool, True = this class was contoured in the case.

    Args:
        store: of the scans.
        cases: labelled ones.
        values: label value of each class; values[0] is 0.
        rule: how voxels become channels.
        settings: of the crops.
        seed: of everything.

    Raises:
        UserError: no case, or no structure in any of them.
    """

    def __init__(
        self,
        *,
        store: Store,
        cases: list[Case],
        values: tuple[int, ...],
        rule: IntensityRule,
        settings: CropSettings,
        seed: int = 0,
    ) -> None:
        self.holders = {value: [case for case in cases if value in case.structures] for value in values[1:]}
        if not any(self.holders.values()):
            raise UserError("no labelled structure in the training cases")
        self.store, self.cases, self.values, self.rule = store, cases, values, rule
        self.settings, self.seed = settings, seed
        self.views = ViewSettings(
            crop=settings.crop,
            spacing_mm=settings.spacing_mm,
            rotation_deg=settings.rotation_deg,
            scale=settings.scale,
            strength=settings.strength,
        )
        self._places: dict[str, dict[int, NDArray[np.float64]]] = {}

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, index])
        settings = self.settings
        case, centre_mm = self._centre(index, rng)
        matrix = random_matrix(self.views, rng)
        if settings.mirror and rng.random() < 0.5:
            matrix[:, 0] *= -1
        grid = centred_grid(centre_mm, (settings.crop,) * 3, matrix)
        image = read_grid(self.store, case, grid, self.rule)
        return {
            "image": change_intensity(image, settings.strength, rng) if settings.strength else image,
            "labels": classes_of(read_label_grid(self.store, case, grid), self.values),
            "contoured": contoured_classes(case, self.values),
        }

    def _centre(self, index: int, rng: np.random.Generator) -> tuple[Case, NDArray[np.float64]]:
        """Case and RAS mm (3,) of a crop's centre."""
        settings = self.settings
        side_mm = settings.crop * np.asarray(settings.spacing_mm)
        if rng.random() < settings.anywhere:
            case = self.cases[rng.integers(len(self.cases))]
            low, high = np.asarray(case.body_box_mm)
            inset = np.minimum(0.25 * side_mm, 0.4 * (high - low))
            return case, rng.uniform(low + inset, high - inset)
        value = self.values[1 + index % (len(self.values) - 1)]
        holders = self.holders[value]
        case = holders[rng.integers(len(holders))]
        places = self.places(case)[value]
        return case, places[rng.integers(len(places))] + rng.uniform(-1, 1, 3) * settings.shift * side_mm

    def places(self, case: Case) -> dict[int, NDArray[np.float64]]:
        """Structure to RAS mm (n, 3) of up to `PLACES` of its voxels; read once per case."""
        if case.id not in self._places:
            labels = self.store.label(case.id)[:, :, :]
            found = {}
            for value in case.structures:
                index = np.argwhere(labels == value)
                if len(index) > PLACES:  # evenly spread, so that no generator is needed
                    index = index[np.linspace(0, len(index) - 1, PLACES).astype(int)]
                found[value] = case.grid.world(index)
            self._places[case.id] = found
        return self._places[case.id]
