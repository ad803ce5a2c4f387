"""Features of a frozen encoder, one pass per scan: on a lattice in the body, at points, at labelled voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import read_label_grid
from alice3d.geometry import Grid
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.segmentation import features_at
from alice3d.nn.tiling import read_pyramids, reading_window
from alice3d.tasks.segmentation.linear import draw_by_stratum, strata_of
from alice3d.tasks.segmentation.samples import classes_of
from alice3d.weights.card import crop_of
from alice3d.weights.files import load_encoder

# Shape suffixes: m cells of the lattice, p points, v voxels, n any of them, f features, xyz voxels.

MAX_CELLS = 50_000
"""Maximum number of cells of a scan's lattice; larger lattices are made coarser."""
MAX_BYTES = 32 * 2**20
"""Maximum memory of a scan's lattice features, as float16."""
Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ProbeScan:
    """A scan to probe, independent of an encoder.

    Attributes:
        case: id.
        image: (c, x, y, z) float32, at the encoder's spacing.
        body: (x, y, z) bool, True = body.
        grid: grid of the image.
        body_box_mm: low and high corner of the body, RAS mm.
        points_mm: landmark name to (3,) RAS mm.
        voxels: (v, 3) sampled labelled voxels.
        classes: (v,) their class indices; 0 is background.
    """

    case: str
    image: NDArray[np.float32]
    body: NDArray[np.bool_]
    grid: Grid
    body_box_mm: tuple[tuple[float, ...], tuple[float, ...]]
    points_mm: dict[str, Points]
    voxels: NDArray[np.int64]
    classes: NDArray[np.int64]

    def inside(self, points_mm: Points) -> NDArray[np.bool_]:
        """Which of the points (n, 3) RAS mm lie in the body."""
        index = np.rint(self.grid.index(points_mm)).astype(int)
        clipped = np.clip(index, 0, np.array(self.body.shape) - 1)
        found: NDArray[np.bool_] = (index == clipped).all(axis=1) & self.body[tuple(clipped.T)]
        return found


def probe_scan(
    store: Store,
    case: Case,
    *,
    rule: IntensityRule,
    spacing_mm: tuple[float, float, float],
    points_mm: dict[str, Points] | None = None,
    values: tuple[int, ...] = (),
    voxels: int = 0,
    seed: int = 0,
) -> ProbeScan:
    """Read a stored case at an encoder's spacing.

    Args:
        points_mm: its landmarks.
        values: label value of each class; voxels of any other structure are not sampled.
        voxels: voxels to sample of each structure and of distant background, and as many of background near
            structures as of all structures together, where errors are most likely; 0 = none.
        seed: of the sampling, together with the case's id.
    """
    scan = ScanInput.of_case(store, case, rule, spacing_mm)
    index, classes = np.zeros((0, 3), np.int64), np.zeros(0, np.int64)
    if voxels and case.labelled:
        labels_xyz = read_label_grid(store, case, scan.grid)
        classes_xyz = classes_of(labels_xyz, values)
        rng = np.random.default_rng([seed, *case.id.encode()])
        strata_xyz = strata_of(classes_xyz, len(values))
        near_xyz = strata_xyz == len(values)
        one, _ = draw_by_stratum(np.where(near_xyz, 0, strata_xyz), voxels, rng)
        near = np.argwhere(near_xyz)
        more = rng.permutation(len(near))[: voxels * (len(values) - 1)]
        index = np.concatenate([one, near[more]])
        index = index[np.isin(labels_xyz[tuple(index.T)], [0, *values])]
        classes = classes_xyz[tuple(index.T)]
    return ProbeScan(case.id, scan.image, scan.body, scan.grid, scan.body_box_mm, points_mm or {}, index, classes)


@dataclass(frozen=True, eq=False)
class FrozenScan:
    """An encoder's features of one scan, its pyramid's levels concatenated, interpolated trilinearly.

    Attributes:
        scan: without its image.
        cells: (m, 3) voxels of the lattice through the body.
        step: voxels from one cell to the next.
        at_cells: (m, f) float16.
        at_points: (p, f) float32, of the landmarks in the order of their names.
        at_voxels: (v, f) float32.
    """

    scan: ProbeScan
    cells: NDArray[np.int64]
    step: int
    at_cells: Float[Tensor, "m f"]
    at_points: Float[Tensor, "p f"]
    at_voxels: Float[Tensor, "v f"]


def lattice(body: NDArray[np.bool_], backbone: Backbone) -> tuple[NDArray[np.int64], int]:
    """Body voxels (m, 3) on a regular lattice, and its step: half the finest stride, or larger if memory requires
    it."""
    most = min(MAX_CELLS, MAX_BYTES // (2 * sum(backbone.channels)))
    step = max(math.ceil((body.sum() / most) ** (1 / 3)), min(backbone.strides) // 2, 1)
    first = step // 2
    cells = np.argwhere(body[first::step, first::step, first::step]) * step + first
    return (cells if len(cells) else np.argwhere(body)[:1]), step


@torch.no_grad()
def freeze(backbone: Backbone, scan: ProbeScan, *, crop: int, device: torch.device, cells: bool = True) -> FrozenScan:
    """Compute all features of a scan in one pass of the encoder; large scans in tiles.

    Args:
        backbone: in evaluation mode, on `device`.
        crop: voxels per side of its training crops, see `reading_window`.
        cells: whether features on the lattice are computed.
    """
    lattice_m3, step = lattice(scan.body, backbone) if cells else (np.zeros((0, 3), np.int64), 1)
    names = sorted(scan.points_mm)
    points = scan.grid.index(np.stack([scan.points_mm[name] for name in names])) if names else np.zeros((0, 3))
    parts = [lattice_m3, np.clip(points, 0, np.array(scan.body.shape) - 1), scan.voxels]
    index_n3 = np.concatenate(parts).astype(np.float64)
    features = torch.empty(len(index_n3), sum(backbone.channels))
    window, whole_voxels = reading_window(backbone, crop)
    for tile, pyramid in read_pyramids(backbone, scan.image, window, whole_voxels, device):
        own = ((index_n3 >= tile.own_low) & (index_n3 < tile.own_high)).all(axis=1)
        local = torch.from_numpy(index_n3[own] - tile.low).float().to(device)
        features[torch.from_numpy(own)] = features_at(pyramid, tile.side, local).cpu()
    at_cells, at_points, at_voxels = torch.split(features, [len(part) for part in parts])
    kept = replace(scan, image=np.zeros((0, 0, 0, 0), np.float32))
    return FrozenScan(kept, lattice_m3, step, at_cells.half(), at_points.clone(), at_voxels.clone())


class FeatureSimilarity:
    """Maps features to vectors whose inner product is the similarity of two positions.

    Each level of the pyramid is standardised over the scans' bodies and scaled to unit length; the similarity is
    the mean of the levels' cosines, weighted by their strides: deep levels encode the rough position in the body, fine
    levels the exact one (see docs/concepts/probes.md for what was tried).

    Args:
        features: (n, f) of many positions, for each scan.
        channels, strides: of the pyramid's levels.
    """

    def __init__(self, features: Sequence[Tensor], channels: Sequence[int], strides: Sequence[int]) -> None:
        count = sum(len(part) for part in features)
        total = torch.stack([part.double().sum(dim=0) for part in features]).sum(dim=0)
        self.mean = (total / count).float()
        squares = torch.stack([(part.float() - self.mean).square().double().sum(dim=0) for part in features]).sum(dim=0)
        deviation = (squares / count).sqrt().float()
        self.scale = 1 / deviation.clamp(min=1e-6)
        self.channels = list(channels)
        self.weights = [(stride / sum(strides)) ** 0.5 for stride in strides]

    def __call__(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """Unit-length float32 rows."""
        levels = torch.split((features.float() - self.mean) * self.scale, self.channels, dim=1)
        return torch.cat([w * F.normalize(one, dim=1) for one, w in zip(levels, self.weights, strict=True)], dim=1)


def clear_of(values: Any) -> float | None:
    """None instead of NaN, which JSON lacks."""
    return float(values) if np.isfinite(values) else None


@dataclass(frozen=True)
class Reading:
    """How an encoder reads scans.

    Attributes:
        rule: voxels to channels.
        spacing_mm: of the scans on reading.
        crop: voxels per side of its training crops.
        device: the device.
    """

    rule: IntensityRule
    spacing_mm: tuple[float, float, float]
    crop: int
    device: torch.device


def read_encoder(name_or_path: str, device: torch.device) -> tuple[Backbone, Reading, dict[str, Any]]:
    """An encoder in evaluation mode, how it reads, and its card.

    Raises:
        UserError: missing, damaged, or not what its card says.
    """
    backbone, card = load_encoder(name_or_path)
    x, y, z = (float(mm) for mm in card["spacing_mm"])
    reading = Reading(IntensityRule(**card["intensity"]), (x, y, z), crop_of(card), device)
    return backbone.eval(), reading, card


def untrained_encoder(
    name: str,
    options: dict[str, Any],
    rule: IntensityRule,
    spacing_mm: tuple[float, float, float],
    crop: int,
    device: torch.device,
    seed: int,
) -> tuple[Backbone, Reading]:
    """A backbone with the initial random weights of this seed; the global random state is not changed.

    Args:
        name, options: of the backbone.
        rule, spacing_mm, crop, device: see `Reading`.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(name, rule.channels, options)
    return backbone.eval(), Reading(rule, spacing_mm, crop, device)
