"""Calibrates a matcher's error estimates on landmarks, and measures the calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.tables.landmarks import Landmarks
from alice3d.errors import UserError
from alice3d.evaluation.field_of_view import Cut, refusal
from alice3d.matching.confidence import (
    FAR_MM,
    GROSS_MM,
    KINDS,
    MOST_MM,
    ErrorModel,
    Kind,
    MatchFeatures,
    beyond_mm,
    transformed,
)
from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.memory_cache import EmbeddedCases
from alice3d.metrics.classification import auroc_of

RIDGE = 3.0
"""Ridge penalty of the standardised weights, in points: errors of some hundred points come from few patients."""
MIN_EACH = 8
"""Points needed above and below each of the two error limits."""


@dataclass(frozen=True)
class Measured:
    """Matches of one kind with ground truth; all (n,).

    Attributes:
        features: see `matching.confidence`.
        error_mm: distance of the match from the true position, also where it lies outside the key scan.
        outside_mm: distance of the true position outside the key scan; negative: inside.
        whole: True = the key scan was not cropped.
        key: case ids.
    """

    features: MatchFeatures
    error_mm: NDArray[np.float64]
    outside_mm: NDArray[np.float64]
    whole: NDArray[np.bool_]
    key: NDArray[np.str_]

    def chosen(self, rows: NDArray[np.bool_]) -> Measured:
        """The rows that are True."""
        features = {name: values[rows] for name, values in self.features.items()}
        return Measured(features, self.error_mm[rows], self.outside_mm[rows], self.whole[rows], self.key[rows])


def joined(parts: Sequence[Measured]) -> Measured:
    """Concatenated rows of several."""
    features = {name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features}
    names = ("error_mm", "outside_mm", "whole", "key")
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Measured(features=features, **columns)


def measure(
    scans: EmbeddedCases,
    landmarks: Landmarks,
    pairs: Iterable[tuple[str, str]],
    cuts: Iterable[Cut],
    kinds: Sequence[Kind] = tuple(KINDS),
    *,
    done: Callable[[], None] | None = None,
) -> dict[Kind, Measured]:
    """Match shared landmarks between uncropped scans, and with cropped key scans; for each kind of match.

    Pairs of scans without a map give no rows: none of their matches is accepted.

    Args:
        pairs: (query, key) case ids.
        cuts: see `field_of_view.draw_cuts`.
        done: called after each pair of scans, cropped ones included.
    """
    parts: dict[Kind, list[Measured]] = {kind: [] for kind in kinds}

    def add(query: str, key: str, key_scan: EmbeddedScan, whole: bool) -> None:
        for kind, rows in _matched(scans, landmarks, query, key, key_scan, whole, kinds).items():
            parts[kind].append(rows)
        if done is not None:
            done()

    for query, key in scans.in_blocks(pairs):
        add(query, key, scans[key], True)
    for cut in cuts:
        matcher, case = scans.matcher, scans.store.case(cut.key)
        scan = cut.apply(ScanInput.of_case(scans.store, case, matcher.rule, matcher.spacing_mm))
        key_scan = None if scan is None else matcher.embed(scan)
        for query in cut.queries:
            if key_scan is not None:
                add(query, cut.key, key_scan, False)
            elif done is not None:
                done()
    return {kind: joined(found) for kind, found in parts.items() if found}


def _matched(
    scans: EmbeddedCases,
    landmarks: Landmarks,
    query: str,
    key: str,
    key_scan: EmbeddedScan,
    whole: bool,
    kinds: Sequence[Kind],
) -> dict[Kind, Measured]:
    shared = sorted(landmarks.points_mm[query].keys() & landmarks.points_mm[key].keys())
    points = np.stack([landmarks.points_mm[query][name] for name in shared])
    true = np.stack([landmarks.points_mm[key][name] for name in shared])
    gone = beyond_mm(key_scan.grid, true)
    field = None
    if any(kind != "direct" for kind in kinds):
        field = scans.matcher.fit(scans[query], key_scan).correspondence
    rows: dict[Kind, Measured] = {}
    for kind in kinds:
        if kind != "direct" and field is None:
            continue
        found, features = scans.matcher.look(scans[query], key_scan, points, kind, field)
        error = np.linalg.norm(found - true, axis=1)
        rows[kind] = Measured(features, error, gone, np.full(len(points), whole), np.full(len(points), key))
    return rows


def _logistic(inputs_ns: NDArray[np.float64], far: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Intercept and weights (1 + s,) of the ridge logistic regression, by Newton's method."""
    design = np.column_stack([np.ones(len(inputs_ns)), inputs_ns])
    pull = np.diag([1e-6, *[RIDGE] * inputs_ns.shape[1]])
    share = np.clip(far.mean(), 1e-3, 1 - 1e-3)
    weights = np.zeros(design.shape[1])
    weights[0] = np.log(share / (1 - share))
    for _ in range(50):
        probability = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        slope = design.T @ (probability - far) + pull @ weights
        curve = (design * (probability * (1 - probability))[:, None]).T @ design + pull
        step = np.linalg.solve(curve, slope)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def _log_linear(inputs_ns: NDArray[np.float64], error_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intercept and weights (1 + s,) of the logarithm of the expected error, unbiased on average."""
    design = np.column_stack([np.ones(len(inputs_ns)), inputs_ns])
    capped = np.clip(error_mm, 1.0, MOST_MM)
    pull = np.diag([1e-6, *[RIDGE] * inputs_ns.shape[1]])
    weights: NDArray[np.float64] = np.linalg.solve(design.T @ design + pull, design.T @ np.log(capped))
    for _ in range(20):  # the mean of a logarithm is not the logarithm of a mean
        foretold = np.minimum(np.exp(design @ weights), MOST_MM)
        weights[0] += np.log(capped.mean() / foretold.mean())
    return weights


def fit_model(rows: Measured, inputs: Sequence[str], *, keep: float) -> ErrorModel:
    """Fit the model of one kind of match.

    Args:
        rows: matches with ground truth, some of them with cropped key scans.
        inputs: names of the features of a match.
        keep: fraction of the good matches (within 10 mm, uncropped scans) that must be accepted.

    Raises:
        UserError: too few good or bad matches for a fit.
    """
    error = rows.error_mm[rows.outside_mm <= 0]
    if min(len(error), len(rows.error_mm) - len(error)) < MIN_EACH:
        raise UserError(
            f"landmarks: {len(error)} of {len(rows.error_mm)} points lie inside the cropped scans; at least {MIN_EACH} "
            "inside and outside are needed: give more landmarks or cuts"
        )
    for limit in (FAR_MM, GROSS_MM):
        above = int((error > limit).sum())
        if min(above, len(error) - above) < MIN_EACH:
            raise UserError(
                f"landmarks: {above} of {len(error)} matches are more than {limit:g} mm off; at least "
                f"{MIN_EACH} above and below are needed: give more landmarks, pairs or cuts"
            )
    good = rows.whole & (rows.error_mm <= FAR_MM) & (rows.outside_mm <= 0)
    if not good.any():
        raise UserError("landmarks: no match between uncropped scans lies within 10 mm; the matcher is not reliable")
    return _fit(rows, inputs, keep)


def _fit(rows: Measured, inputs: Sequence[str], keep: float) -> ErrorModel:
    columns = np.stack([transformed(name, rows.features[name]) for name in inputs], axis=-1)
    centre, scale = columns.mean(axis=0), np.maximum(columns.std(axis=0), 1e-6)
    standard = (columns - centre) / scale
    shown = rows.outside_mm <= 0
    inside, error = standard[shown], rows.error_mm[shown]
    model = ErrorModel(
        inputs=tuple(inputs),
        centre=_plain(centre),
        scale=_plain(scale),
        outside=_plain(_logistic(standard, ~shown)),
        far_10mm=_plain(_logistic(inside, error > FAR_MM)),
        far_20mm=_plain(_logistic(inside, error > GROSS_MM)),
        log_mm=_plain(_log_linear(inside, error)),
        most_far=1.0,
    )
    good = rows.whole & (rows.error_mm <= FAR_MM) & (rows.outside_mm <= 0)
    most = float(np.quantile(model.probability(rows.features)[good], keep)) if good.any() else 0.0
    return ErrorModel(**{**vars(model), "most_far": float(f"{most:.4g}")})


def _plain(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)


def held_out(rows: Measured, inputs: Sequence[str], *, keep: float, folds: int = 5) -> dict[str, Any]:
    """Cross-validation of the model over patients: each fifth of the key scans is predicted by a model fitted without
    it.

    Returns:
        `auroc_10mm`, `auroc_20mm` over whole key scans (NaN where all matches are of one class), and `refusal`.
    """
    place = np.unique(rows.key, return_inverse=True)[1] % folds
    far, gross, accepted = np.zeros(len(place)), np.zeros(len(place)), np.zeros(len(place), bool)
    for n in np.unique(place):
        if (place == n).all():
            raise UserError("landmarks: cross-validation needs more than one key scan; give more cases")
        model, features = _fit(rows.chosen(place != n), inputs, keep), rows.chosen(place == n).features
        far[place == n], gross[place == n] = model.probability(features), model.probability(features, GROSS_MM)
        accepted[place == n] = far[place == n] <= model.most_far
    whole, error = rows.whole, rows.error_mm
    return {
        "auroc_10mm": auroc_of(error[whole] > FAR_MM, far[whole]),
        "auroc_20mm": auroc_of(error[whole] > GROSS_MM, gross[whole]),
        **refusal(error, accepted, rows.outside_mm, whole),
    }
