"""What every sampler is: sample i is drawn from a generator seeded with (seed, i) and says where it came from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from alice3d.data.pairs import PairsTable
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.crops import ViewSettings
from alice3d.data.store import Case, Store
from alice3d.errors import UserError
from alice3d.geometry import Grid

Partner = Literal["same", "matched", "random"]


@dataclass(frozen=True)
class Masks:
    """How masks are drawn where a method wants them.

    Attributes:
        ratio: share of the patches that the encoder does not see.
        block: patches hide together in cubes of this side; 1 = each on its own.
        regions: masks follow anatomy (`draw_visible_regions`) instead of chance.
    """

    ratio: float = 0.75
    block: int = 1
    regions: bool = False


@dataclass(frozen=True, kw_only=True)
class SamplerInputs:
    """What the user gave, for any sampler to take what it needs from.

    Attributes:
        store, cases: where the scans are, and which of them.
        rule: how voxels become channels.
        views: how crops are drawn.
        masks: how masks are drawn, for methods that want them.
        partner: where the second crop of a pair comes from.
        pairs: table of matched points.
        patch: voxels that a patch of the backbone spans.
        seed: of everything.
    """

    store: Store
    cases: list[Case]
    rule: IntensityRule
    views: ViewSettings
    masks: Masks
    partner: Partner = "same"
    pairs: PairsTable | None = None
    patch: int = 8
    seed: int = 0


@dataclass(frozen=True)
class CropLocation:
    """Where a crop of a sample lies: enough to read the same voxels again.

    Attributes:
        case: id of the scan.
        grid: of the crop; its affine leads from voxel indices to RAS mm.
        seed, number: of the sample; `sampler[number]` of a sampler with that seed draws it again.
    """

    case: str
    grid: Grid
    seed: int
    number: int


@dataclass(frozen=True)
class Correspondence:
    """Places of two crops of each sample that show the same anatomy.

    Attributes:
        first, second: keys of the two crops.
        points_first, points_second: fractional voxel indices in each.
        valid: True = the two correspond.
    """

    first: str
    second: str
    points_first: Float[Tensor, "b p 3"]
    points_second: Float[Tensor, "b p 3"]
    valid: Bool[Tensor, "b p"]


class Sampler(ABC):
    """Samples by number; the same seed and number give the same sample, whichever thread or process asks.

    Every crop `NAME` of a sample comes with `affine_NAME` (4, 4), voxel index to RAS mm, and `case_NAME`, the place of
    its scan in `ids`; the sample itself with `number`.

    Attributes:
        Wants: what a method may ask of it; an instance comes from `PretrainMethod.wants`.
        views: keys of the crops that an encoder reads whole.
        reads_scans: whether samples hold voxels of the store's scans.
    """

    Wants: ClassVar[type[Any]]
    views: ClassVar[tuple[str, ...]]
    reads_scans: ClassVar[bool] = True
    store: Store
    rule: IntensityRule
    seed: int

    def __init__(self, cases: list[Case]) -> None:
        if not cases:
            raise UserError("no scans to learn from: the chosen split of the store is empty")
        self.cases = {case.id: case for case in cases}
        self.ids = sorted(self.cases)
        self.place_of = {name: place for place, name in enumerate(self.ids)}

    @classmethod
    @abstractmethod
    def of(cls, inputs: SamplerInputs, wants: Any) -> Self:
        """A sampler over what the user gave, for what a method wants.

        Raises:
            UserError: the inputs do not do, such as a missing pairs table.
        """

    @abstractmethod
    def __getitem__(self, index: int) -> dict[str, Any]:
        """Name to array or number, of the same shapes for every index."""

    @classmethod
    def correspondence(cls, batch: Mapping[str, Tensor]) -> Correspondence | None:
        """Which places of a batch's crops correspond; None for a sampler that does not know."""
        return None

    def located(self, name: str, case: Case, grid: Grid) -> dict[str, NDArray[Any]]:
        """What a sample keeps of where the crop `name` was drawn."""
        return {
            f"affine_{name}": grid.affine.astype(np.float32),
            f"case_{name}": np.asarray(self.place_of[case.id], np.int64),
        }

    def location(self, sample: Mapping[str, Any], name: str) -> CropLocation:
        """Where the crop `name` of a sample was drawn; of a batch take one of its rows."""
        x, y, z = np.asarray(sample[name]).shape[-3:]
        affine = np.asarray(sample[f"affine_{name}"], np.float64)
        case = self.ids[int(np.asarray(sample[f"case_{name}"]))]
        return CropLocation(case, Grid((x, y, z), affine), self.seed, int(np.asarray(sample["number"])))
