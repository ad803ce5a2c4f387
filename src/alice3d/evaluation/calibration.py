"""Calibrates a matcher's error estimates on landmarks, and measures the calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.tables.landmarks import Landmarks
from alice3d.errors import UserError
from alice3d.evaluation.field_of_view import Cut, refusal
from alice3d.evaluation.landmarks import of_patients
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
from alice3d.matching.landmarks import SAME_ANATOMY
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
        query, key: case ids.
        checked: True = passes the checks that no model makes, the same for cropped and uncropped key scans: the match
            lies in the key's body, and enough points agree on the map between the scans where there is one.
    """

    features: MatchFeatures
    error_mm: NDArray[np.float64]
    outside_mm: NDArray[np.float64]
    whole: NDArray[np.bool_]
    query: NDArray[np.str_]
    key: NDArray[np.str_]
    checked: NDArray[np.bool_]

    def chosen(self, rows: NDArray[np.bool_]) -> Measured:
        """The rows that are True."""
        features = {name: values[rows] for name, values in self.features.items()}
        return Measured(features=features, **{name: getattr(self, name)[rows] for name in COLUMNS})


COLUMNS = ("error_mm", "outside_mm", "whole", "query", "key", "checked")
"""What `Measured` holds of each match but its features."""


def joined(parts: Sequence[Measured]) -> Measured:
    """Concatenated rows of several."""
    features = {name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features}
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
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
    fit = scans.matcher.fit(scans[query], key_scan) if any(kind != "direct" for kind in kinds) else None
    field = fit.correspondence if fit is not None else None
    rows: dict[Kind, Measured] = {}
    for kind in kinds:
        if kind != "direct" and field is None:
            continue
        found, features = scans.matcher.look(scans[query], key_scan, points, kind, field)
        agree = kind == "direct" or fit is None or fit.agreement >= SAME_ANATOMY
        rows[kind] = Measured(
            features=features,
            error_mm=np.linalg.norm(found - true, axis=1),
            outside_mm=gone,
            whole=np.full(len(points), whole),
            query=np.full(len(points), query),
            key=np.full(len(points), key),
            checked=key_scan.in_body(found) & agree,
        )
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


def held_out(
    rows: Measured,
    inputs: Sequence[str],
    *,
    keep: float,
    folds: int = 10,
    patients: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Cross-validation of the model over patients: they are split into folds, and the matches between two folds, or
    within one, are predicted by a model fitted to matches that have no patient of these folds on either side.

    Accepted is what the model accepts and what passes the checks on the match itself (`Measured.checked`).

    Returns:
        `auroc_10mm`, `auroc_20mm` over whole key scans (NaN where all matches are of one class), and `refusal`, of the
        matches that could be predicted: none of fewer than four patients, where all numbers are NaN or None.
    """
    far, gross = np.full(len(rows.key), np.nan), np.full(len(rows.key), np.nan)
    accepted = np.zeros(len(rows.key), bool)
    for fitted, predicted in case_folds(rows, folds, patients):
        if not (fitted & (rows.outside_mm <= 0)).any():
            continue
        model, features = _fit(rows.chosen(fitted), inputs, keep), rows.chosen(predicted).features
        far[predicted], gross[predicted] = model.probability(features), model.probability(features, GROSS_MM)
        accepted[predicted] = (far[predicted] <= model.most_far) & rows.checked[predicted]
    known = np.isfinite(far)
    whole, error = rows.whole & known, rows.error_mm
    return {
        "auroc_10mm": auroc_of(error[whole] > FAR_MM, far[whole]) if whole.any() else float("nan"),
        "auroc_20mm": auroc_of(error[whole] > GROSS_MM, gross[whole]) if whole.any() else float("nan"),
        **refusal(error[known], accepted[known], rows.outside_mm[known], rows.whole[known]),
    }


def case_folds(
    rows: Measured, folds: int, patients: Mapping[str, str] | None = None
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """For each two folds of the patients: the rows to fit to and the rows to predict, which share no patient.

    Args:
        rows: matches.
        folds: their number.
        patients: case id to patient; a case that is not named is its own.
    """
    sides = [of_patients(side, patients) for side in (rows.query, rows.key)]
    owners = np.unique(np.concatenate(sides))
    of_query, of_key = (np.searchsorted(owners, side) % folds for side in sides)
    first, second = np.minimum(of_query, of_key), np.maximum(of_query, of_key)
    parts = []
    for a, b in sorted(set(zip(first.tolist(), second.tolist(), strict=True))):
        fitted = ~np.isin(of_query, (a, b)) & ~np.isin(of_key, (a, b))
        parts.append((fitted, (first == a) & (second == b)))
    return parts
