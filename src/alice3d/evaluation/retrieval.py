"""Landmark retrieval with frozen features: the most similar position in the whole body, without a robust fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from alice3d.evaluation.features import FeatureSimilarity, FrozenScan, Points, clear_of
from alice3d.evaluation.landmarks import of_patients, same_place_in_box
from alice3d.metrics.intervals import pair_interval

# Shape suffixes: n points, m cells of the lattice, d width of the vectors.

REACH_VOXELS = 4
"""The peak is refined over the cells within this many voxels (half a token of the residual U-Net)."""
CONTRAST = 2.0
"""Weight of a cell: exp(-CONTRAST · (peak - similarity) / (peak - mean of the cells within reach))."""
ROWS = 256
"""Points whose similarities to a whole scan are in memory at once."""


@dataclass(frozen=True)
class Retrieved:
    """One row per landmark of an ordered pair; all (n,).

    Attributes:
        structure: its name.
        query, key: case ids.
        error_mm: distance of the retrieved position in the key from the true one.
        box_mm: the same for the same relative position in the body's bounding box, the baseline without anatomy.
    """

    structure: NDArray[np.str_]
    query: NDArray[np.str_]
    key: NDArray[np.str_]
    error_mm: Points
    box_mm: Points


def most_similar(
    vectors_nd: Float[Tensor, "n d"], key_md: Float[Tensor, "m d"], cells_m3: NDArray[np.int64], step: int
) -> NDArray[np.float64]:
    """The most similar cell of a scan for each row, refined by a soft-argmax around it; (n, 3) fractional voxels.

    Args:
        vectors_nd, key_md: by one `FeatureSimilarity`.
        cells_m3: voxels of the key's lattice.
        step: voxels from one cell to the next.
    """
    cells = torch.from_numpy(np.ascontiguousarray(cells_m3)).float()
    reach = max(REACH_VOXELS, 2 * step) + 0.1
    found = []
    for first in range(0, len(vectors_nd), ROWS):
        alike_nm = vectors_nd[first : first + ROWS] @ key_md.T
        peak, best = alike_nm.max(dim=1, keepdim=True)
        near_nm = torch.cdist(cells[best[:, 0]], cells) <= reach
        behind_nm = (peak - alike_nm) * near_nm
        spread = behind_nm.sum(dim=1, keepdim=True) / near_nm.sum(dim=1, keepdim=True)
        weight = torch.exp(-CONTRAST * behind_nm / spread.clamp(min=1e-6)) * near_nm
        found.append((weight.double() @ cells.double() / weight.double().sum(dim=1, keepdim=True)).numpy())
    return np.concatenate(found) if found else np.zeros((0, 3))


def retrieve(
    scans: Sequence[FrozenScan],
    similarity: FeatureSimilarity,
    pairs: Iterable[tuple[str, str]],
    *,
    done: Callable[[], None] | None = None,
) -> Retrieved:
    """Find the landmarks that two cases share, for each ordered pair (query, key); a key scan is searched once.

    Args:
        scans: of all cases of the pairs.
        similarity: feature similarity.
        pairs: of case ids.
        done: called after each key scan.
    """
    by_case = {one.scan.case: one for one in scans}
    names = {case: sorted(one.scan.points_mm) for case, one in by_case.items()}
    vectors = {case: similarity(one.at_points) for case, one in by_case.items()}
    asking: dict[str, list[str]] = {}
    for query, key in pairs:
        asking.setdefault(key, []).append(query)
    columns: dict[str, list[Any]] = {name: [] for name in Retrieved.__dataclass_fields__}
    for key, queries in sorted(asking.items()):
        there = by_case[key]
        key_box: Any = there.scan  # only its `body_box_mm` is read
        rows = [(query, n) for query in queries for n in range(len(names[query])) if names[query][n] in names[key]]
        wanted = torch.stack([vectors[query][n] for query, n in rows])
        index = most_similar(wanted, similarity(there.at_cells), there.cells, there.step)
        structure = [names[query][n] for query, n in rows]
        true = np.stack([there.scan.points_mm[name] for name in structure])
        box = []
        for (query, _), name in zip(rows, structure, strict=True):
            query_box: Any = by_case[query].scan
            box.append(same_place_in_box(query_box, key_box, query_box.points_mm[name]))
        columns["structure"].append(np.array(structure))
        columns["query"].append(np.array([query for query, _ in rows]))
        columns["key"].append(np.full(len(rows), key))
        columns["error_mm"].append(np.linalg.norm(there.scan.grid.world(index) - true, axis=1))
        columns["box_mm"].append(np.linalg.norm(np.stack(box) - true, axis=1))
        if done is not None:
            done()
    return Retrieved(**{name: np.concatenate(parts) for name, parts in columns.items()})


def describe_errors(
    found: Retrieved, error_mm: Points, *, seed: int = 0, patients: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Mean and median with intervals over patients, fractions within 5 and 10 mm, and the mean of each structure.

    Args:
        found: pairs and structures of the errors.
        error_mm: (n,) its own, or a baseline's.
        seed: of the bootstrap.
        patients: case id to patient, where one has several cases.
    """
    sides = (of_patients(side, patients).tolist() for side in (found.query, found.key))
    cases = {**dict(zip(("first", "second"), sides, strict=True)), "seed": seed}
    summary = {
        "mean_mm": pair_interval(error_mm.tolist(), **cases),
        "median_mm": pair_interval(error_mm.tolist(), **cases, median=True),
    }
    return {
        **{name: {key: clear_of(value) for key, value in entry.items()} for name, entry in summary.items()},
        "within_5mm": float((error_mm <= 5).mean()),
        "within_10mm": float((error_mm <= 10).mean()),
        "by_structure": {
            str(name): {
                "points": int((found.structure == name).sum()),
                "mean_mm": float(error_mm[found.structure == name].mean()),
                "median_mm": float(np.median(error_mm[found.structure == name])),
            }
            for name in np.unique(found.structure)
        },
    }
