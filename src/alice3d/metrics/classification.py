"""Scores of a classifier: AUROC, accuracy, balanced accuracy and F1, with intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.metrics.intervals import percentile_interval

Floats = NDArray[np.float64]
METRICS = ("auroc", "accuracy", "balanced_accuracy", "f1")
RESAMPLES = 2000
AT_ONCE = 100
"""Number of resamples whose weights are in memory at once."""

# Shape suffixes: n rows (scans or points), k classes, r resamples.


def auroc(positive_n: NDArray[np.bool_], score_n: Floats, weight_rn: Floats) -> Floats:
    """Area under the ROC curve, once for each row of weights (r,); NaN where the positives or negatives have no weight.

    The probability that a positive scores above a negative, ties counting half (Hanley and McNeil, Radiology 1982).
    """
    order = np.argsort(score_n, kind="stable")
    starts = np.flatnonzero(np.r_[True, score_n[order][1:] > score_n[order][:-1]])  # of each distinct score
    weight = weight_rn[:, order]
    positive = np.add.reduceat(weight * positive_n[order], starts, axis=1)
    negative = np.add.reduceat(weight * ~positive_n[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = (positive * (below + negative / 2)).sum(axis=1)
    out: Floats = np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return out


def auroc_of(positive_n: NDArray[np.bool_], score_n: Floats) -> float:
    """`auroc` with equal weights, as one number; NaN where there is only one class."""
    return float(auroc(positive_n, score_n, np.ones((1, len(score_n))))[0])


def confusion(
    reference_n: NDArray[np.int64], predicted_n: NDArray[np.int64], weight_rn: Floats, classes: int
) -> Floats:
    """Weighted confusion matrices (r, k, k): rows are the reference, columns the prediction."""
    cells = np.zeros((len(reference_n), classes * classes))
    cells[np.arange(len(reference_n)), reference_n * classes + predicted_n] = 1
    out: Floats = (weight_rn @ cells).reshape(len(weight_rn), classes, classes)
    return out


def _ratio(above: Floats, below: Floats) -> Floats:
    out: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return out


def class_scores(reference_n: NDArray[np.int64], probability_nk: Floats, weight_rn: Floats) -> dict[str, Floats]:
    """Scores of each class (r, k) and `accuracy` (r,), by rows of weights.

    `auroc` is one against the rest; `precision`, `recall` and `f1` are for the class with the highest probability. NaN
    where a score does not exist: the AUROC and recall of a class that the reference lacks, the F1 of one that is
    neither present nor predicted.
    """
    classes = probability_nk.shape[1]
    matrix = confusion(reference_n, probability_nk.argmax(axis=1), weight_rn, classes)
    right, there, said = np.diagonal(matrix, axis1=1, axis2=2), matrix.sum(axis=2), matrix.sum(axis=1)
    curves = [auroc(reference_n == k, probability_nk[:, k], weight_rn) for k in range(classes)]
    return {
        "auroc": np.stack(curves, axis=1),
        "recall": _ratio(right, there),
        "precision": _ratio(right, said),
        "f1": _ratio(2 * right, there + said),
        "accuracy": right.sum(axis=1) / there.sum(axis=1),
    }


def _mean(values_rk: Floats) -> Floats:
    """Mean over the classes that have a score."""
    known = ~np.isnan(values_rk)
    return _ratio(np.where(known, values_rk, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))


def overall_scores(reference_n: NDArray[np.int64], probability_nk: Floats, weight_rn: Floats) -> dict[str, Floats]:
    """Each of `METRICS` (r,): AUROC, F1 and, as balanced accuracy, recall are means over classes, whatever their size.

    As scikit-learn's `roc_auc_score(multi_class="ovr")`, `f1_score(average="macro")` and `balanced_accuracy_score`.
    """
    by_class = class_scores(reference_n, probability_nk, weight_rn)
    return {
        "auroc": _mean(by_class["auroc"]),
        "accuracy": by_class["accuracy"],
        "balanced_accuracy": _mean(by_class["recall"]),
        "f1": _mean(by_class["f1"]),
    }


def case_weights(case_n: Sequence[str], *, resamples: int, seed: int) -> Floats:
    """How often each row counts in each bootstrap sample (r, n): cases are resampled, with all rows of a case.

    Args:
        case_n: case of each row, or its patient, where one has several cases.
        resamples, seed: of the bootstrap.
    """
    cases, of_row = np.unique(np.asarray(case_n), return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(cases), np.full(len(cases), 1 / len(cases)), size=resamples)
    out: Floats = drawn[:, of_row].astype(np.float64)
    return out


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def summarise_classes(
    case_n: Sequence[str],
    reference_n: NDArray[np.int64],
    probability_nk: Floats,
    classes: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    patients: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Scores of all rows, with expanded percentile bootstrap intervals over patients.

    Args:
        case_n: case of each row.
        reference_n: index of its class.
        probability_nk: class probabilities.
        classes: their names.
        level, resamples, seed: of the bootstrap.
        patients: case id to patient; a case that is not named is its own.

    Returns:
        `cases` and `points` (rows); each of `METRICS` with `mean` (the score of all rows), `low` and `high`; None where
        a score does not exist; `by_class`: name to `count`, `auroc`, `precision`, `recall`, `f1`; `confusion`:
        `classes` and `counts`, rows are the reference.
    """
    cases = len(set(case_n))
    once = np.ones((1, len(reference_n)))
    whole = overall_scores(reference_n, probability_nk, once)
    owner_n = [(patients or {}).get(case, case) for case in case_n]
    weights = case_weights(owner_n, resamples=resamples, seed=seed)
    parts = [
        overall_scores(reference_n, probability_nk, weights[first : first + AT_ONCE])
        for first in range(0, resamples, AT_ONCE)
    ]
    overall = {}
    for metric in METRICS:
        drawn = np.concatenate([part[metric] for part in parts])
        drawn = drawn[~np.isnan(drawn)]
        known = len(drawn) and not np.isnan(whole[metric][0])
        low, high = percentile_interval(drawn, len(set(owner_n)), level=level) if known else (np.nan, np.nan)
        overall[metric] = {"mean": _plain(whole[metric][0]), "low": _plain(low), "high": _plain(high)}
    by_class = class_scores(reference_n, probability_nk, once)
    counts = confusion(reference_n, probability_nk.argmax(axis=1), once, len(classes))[0].astype(int)
    return {
        "cases": cases,
        "points": len(reference_n),
        **overall,
        "by_class": {
            name: {
                "count": int(counts[k].sum()),
                **{score: _plain(by_class[score][0, k]) for score in ("auroc", "precision", "recall", "f1")},
            }
            for k, name in enumerate(classes)
        },
        "confusion": {"classes": list(classes), "counts": counts.tolist()},
    }
