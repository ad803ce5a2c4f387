"""Landmark errors of a matcher against two baselines, and how well bad matches are detected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.store import Store
from alice3d.data.tables.landmarks import Landmarks
from alice3d.errors import UserError
from alice3d.matching.confidence import FAR_MM, GROSS_MM, MOST_MM
from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.memory_cache import EmbeddedCases
from alice3d.matching.search import search_all
from alice3d.metrics.classification import auroc, auroc_of
from alice3d.metrics.intervals import FRACTION, NOT_NEGATIVE, pair_interval, percentile_interval

Points = NDArray[np.float64]
MAX_PAIRS = 2500
"""Maximum number of ordered pairs of scans; of more, a seeded random sample is evaluated."""
AT_ONCE = 50
"""Resamples whose weights are held at once."""
BINS = 8
"""Bins of a reliability table, each with equally many points."""

FOUND = ("cycle_mm", "similarity", "certainty", "far_10mm", "far_20mm", "expected_mm", "accepted")
"""Fields that `PointErrors` copies from `Matches`."""


def ordered_pairs(landmarks: Landmarks, *, limit: int = MAX_PAIRS, seed: int = 0) -> list[tuple[str, str]]:
    """All ordered pairs of cases that share a structure, or a seeded random sample of `limit` of them; sorted."""
    cases = sorted(landmarks.points_mm)
    pairs = [
        (query, key)
        for query in cases
        for key in cases
        if query != key and landmarks.points_mm[query].keys() & landmarks.points_mm[key].keys()
    ]
    if len(pairs) <= limit:
        return pairs
    chosen = np.random.default_rng(seed).choice(len(pairs), limit, replace=False)
    return [pairs[n] for n in sorted(chosen)]


def chosen_cases(store: Store, split: str) -> set[str]:
    """Ids of the cases of the named splits; of all without a name.

    Raises:
        UserError: no such split.
    """
    names = [name.strip() for name in split.split(",") if name.strip()]
    for name in names:
        if name not in store.splits:
            raise UserError(f"split: the store has no split {name!r}; it has {', '.join(store.splits) or 'none'}")
    return {case.id for case in store.cases() if not names or case.split in names}


@dataclass(frozen=True)
class PointErrors:
    """One row per landmark of an ordered pair; all (n,).

    Attributes:
        structure: its name.
        query, key: case ids.
        error_mm, box_mm, untrained_mm: distance to the true position of the match, of the same relative position in
            the body's bounding box, and of the match by a network with random weights.
        cycle_mm, similarity, certainty, far_10mm, far_20mm, expected_mm, accepted: as `Matches`.
    """

    structure: NDArray[np.str_]
    query: NDArray[np.str_]
    key: NDArray[np.str_]
    error_mm: Points
    box_mm: Points
    untrained_mm: Points
    cycle_mm: Points
    similarity: Points
    certainty: Points
    far_10mm: Points
    far_20mm: Points
    expected_mm: Points
    accepted: NDArray[np.bool_]


def landmark_errors(
    scans: EmbeddedCases,
    untrained: EmbeddedCases | None,
    landmarks: Landmarks,
    pairs: Iterable[tuple[str, str]],
    *,
    done: Callable[[], None] | None = None,
) -> PointErrors:
    """Match the landmarks that two cases share, for each ordered pair.

    Args:
        scans: embeddings by the matcher, which is used in the mode of its card (direct or robust).
        untrained: embeddings by a random network, matched directly; None leaves that baseline out (NaN).
        landmarks: of the cases.
        pairs: (query, key) case ids.
        done: called after each pair.
    """
    given = list(pairs)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for query, key in scans.in_blocks(given):
        shared = sorted(landmarks.points_mm[query].keys() & landmarks.points_mm[key].keys())
        points = np.stack([landmarks.points_mm[query][name] for name in shared])
        true = np.stack([landmarks.points_mm[key][name] for name in shared])
        scan_q, scan_k = scans[query], scans[key]
        found = scans.matcher.match(scan_q, scan_k, points)
        row = {name: getattr(found, name) for name in FOUND}
        row |= {"structure": np.array(shared), "query": np.full(len(shared), query), "key": np.full(len(shared), key)}
        row["error_mm"] = np.linalg.norm(found.point_mm - true, axis=1)
        row["box_mm"] = np.linalg.norm(same_place_in_box(scan_q, scan_k, points) - true, axis=1)
        row["untrained_mm"] = np.full(len(shared), np.nan)
        if untrained is not None:
            guess = search_all(untrained[query].at(points), untrained[key])
            row["untrained_mm"] = np.linalg.norm(guess - true, axis=1)
        rows[query, key] = row
        if done is not None:
            done()
    return PointErrors(
        **{name: np.concatenate([rows[pair][name] for pair in given]) for name in PointErrors.__dataclass_fields__}
    )


def same_place_in_box(query: EmbeddedScan, key: EmbeddedScan, points_mm: Points) -> Points:
    """The baseline without anatomy: the same relative position in the body's bounding box; (n, 3) RAS mm."""
    low_q, high_q = np.asarray(query.body_box_mm)
    low_k, high_k = np.asarray(key.body_box_mm)
    place: Points = low_k + (points_mm - low_q) / np.maximum(high_q - low_q, 1e-6) * (high_k - low_k)
    return place


def _scores(errors: PointErrors, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Error statistics of the chosen rows."""
    error, accepted = errors.error_mm[chosen], errors.accepted[chosen]
    pairs = {(a, b) for a, b in zip(errors.query[chosen].tolist(), errors.key[chosen].tolist(), strict=True)}
    kept = error[accepted]
    return {
        "pairs": len(pairs),
        "points": len(error),
        "mean_mm": float(error.mean()),
        "median_mm": float(np.median(error)),
        "within_5mm": float((error <= 5).mean()),
        "within_10mm": float((error <= 10).mean()),
        "cycle_auroc_10mm": _number(auroc_of(error > 10, errors.cycle_mm[chosen])),
        "accepted_share": float(accepted.mean()),
        "accepted_within_10mm": float((kept <= 10).mean()) if len(kept) else None,
        "baseline_box_mean_mm": float(errors.box_mm[chosen].mean()),
        "baseline_box_median_mm": float(np.median(errors.box_mm[chosen])),
        "baseline_untrained_mean_mm": _number(float(errors.untrained_mm[chosen].mean())),
        "baseline_untrained_median_mm": _number(float(np.median(errors.untrained_mm[chosen]))),
    }


def of_patients(cases: NDArray[np.str_], patients: Mapping[str, str] | None) -> NDArray[np.str_]:
    """The patient of each case (n,); a case that is not named is its own."""
    return np.array([(patients or {}).get(case, case) for case in cases.tolist()], dtype=np.str_)


def patient_intervals(
    errors: PointErrors, *, seed: int = 0, patients: Mapping[str, str] | None = None
) -> dict[str, dict[str, float | None]]:
    """95 % intervals over patients: thousands of points of a few patients tell no more than these patients do.

    Args:
        errors: all points.
        patients: case id to patient, where one has several cases.
        seed: of the bootstrap of medians and AUROC.

    Returns:
        `low` and `high` by the name of the score; None where there are too few patients, or no such score.
    """
    errors = replace(errors, query=of_patients(errors.query, patients), key=of_patients(errors.key, patients))
    error, accepted = errors.error_mm, errors.accepted
    every = np.ones(len(error), bool)
    means = {
        "mean_mm": (error, every),
        "within_5mm": (error <= 5, every),
        "within_10mm": (error <= 10, every),
        "accepted_share": (accepted, every),
        "accepted_within_10mm": (error <= 10, accepted),
        "baseline_box_mean_mm": (errors.box_mm, every),
        "baseline_untrained_mean_mm": (errors.untrained_mm, every),
    }
    medians = {
        "median_mm": error,
        "baseline_box_median_mm": errors.box_mm,
        "baseline_untrained_median_mm": errors.untrained_mm,
    }
    query, key, found = errors.query.tolist(), errors.key.tolist(), {}
    for name, (values, rows) in means.items():
        sides = errors.query[rows].tolist(), errors.key[rows].tolist()
        bounds = NOT_NEGATIVE if name.endswith("_mm") else FRACTION
        found[name] = pair_interval(values[rows].astype(float).tolist(), *sides, bounds=bounds)
    for name, values in medians.items():
        known = np.isfinite(values).all()
        found[name] = pair_interval(values.tolist() if known else [], query, key, median=True, seed=seed)
    found["cycle_auroc_10mm"] = auroc_interval(errors, error > FAR_MM, errors.cycle_mm, seed=seed)
    if np.isfinite(errors.far_10mm).all():
        found["foretold_auroc_10mm"] = auroc_interval(errors, error > FAR_MM, errors.far_10mm, seed=seed)
    return {name: {end: _number(float(one[end])) for end in ("low", "high")} for name, one in found.items()}


def auroc_interval(
    errors: PointErrors, positive: NDArray[np.bool_], score: Points, *, resamples: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Expanded percentile bootstrap interval of an AUROC over patients; a point counts by the product of the counts of
    its two patients, or by the one where both are the same.

    Args:
        errors: patients of the points.
        positive, score: (n,) of them.
        resamples, seed: of the bootstrap.
    """
    patients, places = np.unique([errors.query, errors.key], return_inverse=True)
    one, two = places.reshape(2, -1)
    rng, count = np.random.default_rng(seed), len(patients)
    found = []
    for first in range(0, resamples, AT_ONCE):
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(AT_ONCE, resamples - first)).astype(float)
        found.append(auroc(positive, score, drawn[:, one] * np.where(one == two, 1, drawn[:, two])))
    drawn_areas = np.concatenate(found)
    low, high = percentile_interval(drawn_areas[~np.isnan(drawn_areas)], count if count > 2 else 0)
    return {"low": low, "high": high}


def _number(value: float) -> float | None:
    """None instead of NaN, which JSON lacks."""
    return value if np.isfinite(value) else None


def confidence_scores(errors: PointErrors) -> dict[str, Any]:
    """How well the features of a match predict its error: AUROC of each, and predicted against observed errors.

    `expected_mm` is the mean expected error, to compare with `mean_mm`; `mean_mm` clips errors at
    `matching.confidence.MOST_MM`, as the expected one does. Predictions are None without a calibrated card.
    """
    error = errors.error_mm
    scores: dict[str, Any] = {}
    for limit, predicted in ((FAR_MM, errors.far_10mm), (GROSS_MM, errors.far_20mm)):
        by_feature = {"foretold": predicted, "cycle": errors.cycle_mm, "similarity": -errors.similarity}
        scores |= {
            f"{name}_auroc_{limit:g}mm": _number(auroc_of(error > limit, score)) if np.isfinite(score).all() else None
            for name, score in by_feature.items()
        }
        scores[f"far_{limit:g}mm"] = _number(float(predicted.mean()))
        scores[f"true_far_{limit:g}mm"] = float((error > limit).mean())
    scores["expected_mm"] = _number(float(errors.expected_mm.mean()))
    scores["mean_mm"] = float(np.minimum(error, MOST_MM).mean())
    scores["reliability"] = reliability(errors.far_10mm, error) if np.isfinite(errors.far_10mm).all() else None
    return scores


def reliability(predicted: NDArray[Any], error_mm: NDArray[Any], bins: int = BINS) -> list[dict[str, Any]]:
    """Predicted probability of an error above 10 mm against its observed frequency, in bins of equally many points."""
    order = np.argsort(predicted, kind="stable")
    return [
        {
            "points": len(part),
            "foretold": float(predicted[part].mean()),
            "true": float((error_mm[part] > FAR_MM).mean()),
            "mean_mm": float(error_mm[part].mean()),
        }
        for part in np.array_split(order, bins)
        if len(part)
    ]


def summarise(
    errors: PointErrors, *, skipped_cases: int, seed: int = 0, patients: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The keys of `alice evaluate-matcher --json`: means over points, and the same for each structure.

    `intervals` holds `low` and `high` of each score of all points, over patients: see `patient_intervals`.
    """
    result = _scores(errors, np.ones(len(errors.error_mm), bool))
    result["intervals"] = patient_intervals(errors, seed=seed, patients=patients)
    result["skipped_cases"] = skipped_cases
    result["trust"] = confidence_scores(errors)
    result["by_structure"] = {
        str(name): _scores(errors, errors.structure == name) for name in np.unique(errors.structure)
    }
    return result
