"""Scores of label maps: Dice, surface Dice (NSD) and HD95, per case and structure, and their summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from surface_distance import compute_robust_hausdorff, compute_surface_dice_at_tolerance, compute_surface_distances

from alice3d.metrics.intervals import FRACTION, NOT_NEGATIVE, mean_interval

METRICS = {"dice": FRACTION, "nsd": FRACTION, "hd95_mm": NOT_NEGATIVE}
"""Scores, and their ranges."""


@dataclass(frozen=True)
class StructureScore:
    """One structure of one case.

    Attributes:
        case: id.
        structure: name.
        value: label value.
        dice: 0 to 1.
        nsd: fraction of both surfaces that lies within the tolerance of the other, 0 to 1.
        hd95_mm: 95th percentile of the distances between the surfaces, the larger of both directions.
        reference_voxels, predicted_voxels: numbers of voxels.
        missed: present in the reference, nothing predicted.
        false_positive: predicted, absent from the reference; Dice, NSD and HD95 are then NaN.
        false_positive_ml: predicted volume in ml where it is one, else 0.
    """

    case: str
    structure: str
    value: int
    dice: float
    nsd: float
    hd95_mm: float
    reference_voxels: int
    predicted_voxels: int
    missed: bool
    false_positive: bool = False
    false_positive_ml: float = 0.0


def dice_score(reference_xyz: NDArray[np.bool_], predicted_xyz: NDArray[np.bool_]) -> float:
    """Twice the overlap by the sum of both (Dice, 1945); NaN where both are empty."""
    total = int(reference_xyz.sum()) + int(predicted_xyz.sum())
    return 2 * int((reference_xyz & predicted_xyz).sum()) / total if total else float("nan")


def surface_scores(
    reference_xyz: NDArray[np.bool_],
    predicted_xyz: NDArray[np.bool_],
    spacing_mm: Iterable[float],
    *,
    tolerance_mm: float,
) -> tuple[float, float]:
    """NSD at a tolerance and HD95 in mm, by DeepMind's surface-distance package (Nikolov et al., JMIR 2021).

    Surface elements are weighted by their area. Where one is empty NSD is 0 and HD95 the diagonal of the array; where
    both are empty, NaN.

    Args:
        reference_xyz, predicted_xyz: masks.
        spacing_mm: (3,) of the arrays' axes.
        tolerance_mm: distance up to which surfaces agree.
    """
    spacing = [float(mm) for mm in spacing_mm]
    filled = bool(reference_xyz.any()), bool(predicted_xyz.any())
    if not any(filled):
        return float("nan"), float("nan")
    if not all(filled):
        return 0.0, float(np.linalg.norm(np.asarray(reference_xyz.shape) * spacing))
    distances = compute_surface_distances(reference_xyz, predicted_xyz, spacing)
    nsd = float(compute_surface_dice_at_tolerance(distances, tolerance_mm))
    return nsd, float(compute_robust_hausdorff(distances, 95))


def with_reference(reference_xyz: NDArray[Any], predicted_xyz: NDArray[Any]) -> NDArray[Any]:
    """A prediction without the voxels that have no reference, whose reference value is below 0: they become 0."""
    ignored = reference_xyz < 0
    return np.where(ignored, 0, predicted_xyz) if ignored.any() else predicted_xyz


def score_case(
    case: str,
    reference_xyz: NDArray[Any],
    predicted_xyz: NDArray[Any],
    spacing_mm: Iterable[float],
    names: dict[int, str],
    *,
    tolerance_mm: float,
) -> list[StructureScore]:
    """Scores of the structures in a case's reference; others were not contoured and are left out.

    Voxels whose reference is below 0 have none, and belong to no structure in either map.

    Args:
        case: id.
        reference_xyz, predicted_xyz: label values on one grid.
        spacing_mm: (3,) of that grid.
        names: label value to name.
        tolerance_mm: of NSD.
    """
    spacing = [float(mm) for mm in spacing_mm]
    scores = []
    predicted_xyz = with_reference(reference_xyz, predicted_xyz)
    for value in sorted({int(v) for v in np.unique(reference_xyz) if v > 0}):
        reference, predicted = reference_xyz == value, predicted_xyz == value
        nsd, hd95_mm = surface_scores(reference, predicted, spacing, tolerance_mm=tolerance_mm)
        scores.append(
            StructureScore(
                case=case,
                structure=names.get(value, f"label_{value}"),
                value=value,
                dice=dice_score(reference, predicted),
                nsd=nsd,
                hd95_mm=hd95_mm,
                reference_voxels=int(reference.sum()),
                predicted_voxels=int(predicted.sum()),
                missed=not predicted.any(),
            )
        )
    return scores


def score_absent(
    case: str,
    reference_xyz: NDArray[Any],
    predicted_xyz: NDArray[Any],
    spacing_mm: Iterable[float],
    names: Mapping[int, str],
) -> list[StructureScore]:
    """What is predicted of structures that a case's reference lacks; for an empty reference, every structure.

    There is no overlap to measure there. Dice 0 would be as bad for one voxel as for a litre, Dice 1 for a structure
    that is rightly not predicted would drown those that are there, and NaN is left out without a word (Maier-Hein,
    Reinke et al., Nature Methods 2024): so these are counted, with their volume, and are in no mean.

    Args:
        case: id.
        reference_xyz, predicted_xyz: label values on one grid.
        spacing_mm: (3,) of that grid.
        names: label value to name.
    """
    voxel_ml = float(np.prod([float(mm) for mm in spacing_mm])) / 1000
    predicted_xyz = with_reference(reference_xyz, predicted_xyz)
    shown = {int(value) for value in np.unique(reference_xyz) if value > 0}
    values, counts = np.unique(predicted_xyz, return_counts=True)
    predicted = {int(value): int(count) for value, count in zip(values, counts, strict=True) if value}
    wanted = (set(predicted) if shown else {*predicted, *names}) - shown - {0}
    nothing = float("nan")
    return [
        StructureScore(
            case=case,
            structure=names.get(value, f"label_{value}"),
            value=value,
            dice=nothing,
            nsd=nothing,
            hd95_mm=nothing,
            reference_voxels=0,
            predicted_voxels=predicted.get(value, 0),
            missed=False,
            false_positive=value in predicted,
            false_positive_ml=predicted.get(value, 0) * voxel_ml,
        )
        for value in sorted(wanted)
    ]


def summarise(
    scores: list[StructureScore], cases: int, structures: list[str], patients: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Means over the structures of a case, then over the cases of a patient, then over patients, with 95 % intervals
    over patients.

    Args:
        scores: of all cases, those of absent structures (`score_absent`) among them: these are in none of the means.
        cases: number of scored cases; one without any structure is in none of the means.
        structures: names that could have been present, for the count of absent ones.
        patients: case id to patient; a case that is not named is its own.

    Returns:
        `cases`; `dice`, `nsd`, `hd95_mm`, each with `mean`, `low`, `high`; `by_structure`: name to the same, with its
        own `cases`, `absent` (references without it), `false_positive` (of these, predicted all the same),
        `false_positive_ml` (their mean volume; NaN without any) and `missed` (present, nothing predicted); `absent`,
        `false_positive` and `missed` summed over structures, `false_positive_ml` over all; `healthy` (cases whose
        reference is empty) and `patients`.
    """
    false = [score for score in scores if score.false_positive]
    every = {score.case for score in scores}
    scores = [score for score in scores if score.reference_voxels]
    structures = [*structures, *sorted({score.structure for score in false} - set(structures))]
    by_case: dict[str, list[StructureScore]] = {}
    for score in scores:
        by_case.setdefault(score.case, []).append(score)
    known = patients or {}
    owners = [known.get(case, case) for case in by_case]
    overall = {
        metric: mean_interval(
            [float(np.mean([getattr(score, metric) for score in its])) for its in by_case.values()],
            owners,
            bounds=bounds,
        )
        for metric, bounds in METRICS.items()
    }
    by_structure = {}
    for name in structures:
        its = [score for score in scores if score.structure == name]
        by_structure[name] = {
            "cases": len(its),
            "absent": cases - len(its),
            **_false_positives([score for score in false if score.structure == name]),
            "missed": sum(score.missed for score in its),
            **{
                metric: mean_interval(
                    [getattr(score, metric) for score in its],
                    [known.get(score.case, score.case) for score in its],
                    bounds=bounds,
                )
                for metric, bounds in METRICS.items()
            },
        }
    return {
        "cases": cases,
        "patients": len({known.get(case, case) for case in every | set(by_case)}) + cases - len(every | set(by_case)),
        "healthy": cases - len(by_case),
        **overall,
        "by_structure": by_structure,
        "absent": sum(entry["absent"] for entry in by_structure.values()),
        **_false_positives(false),
        "missed": sum(score.missed for score in scores),
    }


def _false_positives(scores: list[StructureScore]) -> dict[str, Any]:
    volumes = [score.false_positive_ml for score in scores]
    return {"false_positive": len(scores), "false_positive_ml": float(np.mean(volumes)) if volumes else float("nan")}
