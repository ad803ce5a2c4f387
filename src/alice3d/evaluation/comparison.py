"""Arms of a comparison: scores a case and seed, their table, and paired tests against one arm."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

LOWER_IS_BETTER = ("landmark_mean_mm", "landmark_median_mm")
RESAMPLES = 5000
TESTS = (
    "paired bootstrap: cases (of landmarks both cases of a pair) and seeds drawn with replacement, "
    f"{RESAMPLES} times; Wilcoxon signed-rank over cases, differences averaged over seeds; "
    "p_holm: the bootstrap's p, corrected by Holm over the arms of a measure; with fewer than about eight cases or "
    "three seeds the bootstrap is too sure of itself"
)
"""What the columns of the tests mean."""


@dataclass(frozen=True)
class Unit:
    """One score of one arm, of the smallest thing that is scored.

    Attributes:
        method: the arm's name.
        labels: labelled cases it learnt from; None for measures without labels.
        seed: of training and of the draw.
        measure: `linear_dice`, `knn_accuracy`, `landmark_mm` or `dice`.
        case: that is scored; of landmarks the query.
        key: of landmarks the key's case and the structure, else "".
        value: the score.
    """

    method: str
    labels: int | None
    seed: int
    measure: str
    case: str
    key: str
    value: float


def dice_by_case(metrics: Path) -> dict[str, float]:
    """Mean Dice over the structures of each case, from the `metrics.csv` of `alice evaluate`."""
    found: dict[str, list[float]] = {}
    for row in csv.DictReader(metrics.read_text(encoding="utf-8").splitlines()):
        found.setdefault(row["case"], []).append(float(row["dice"]))
    return {case: sum(values) / len(values) for case, values in found.items()}


Cell = tuple[str, int | None, int, str]


def cells_of(units: Sequence[Unit]) -> dict[Cell, list[Unit]]:
    """Units by (method, labels, seed, measure)."""
    found: dict[Cell, list[Unit]] = {}
    for unit in units:
        found.setdefault((unit.method, unit.labels, unit.seed, unit.measure), []).append(unit)
    return found


def table(units: Sequence[Unit]) -> list[dict[str, Any]]:
    """Rows of `method`, `labels`, `seed`, `measure`, `value`: means over cases; of landmarks mean and median."""
    rows = []
    for (method, labels, seed, measure), its in cells_of(units).items():
        values = [unit.value for unit in its]
        kinds = {measure: float(np.mean(values))}
        if measure == "landmark_mm":
            kinds = {"landmark_mean_mm": float(np.mean(values)), "landmark_median_mm": float(np.median(values))}
        rows += [
            {"method": method, "labels": labels, "seed": seed, "measure": name, "value": value}
            for name, value in kinds.items()
        ]
    return rows


def means(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int | None, str], list[float]]:
    """Values of all seeds by (measure, labels, method)."""
    found: dict[tuple[str, int | None, str], list[float]] = {}
    for row in rows:
        found.setdefault((row["measure"], row["labels"], row["method"]), []).append(row["value"])
    return found


def best(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The arm with the best mean over seeds, of each measure and number of labels."""
    found: dict[tuple[str, int | None], tuple[str, float]] = {}
    for (measure, labels, method), values in means(rows).items():
        mean, sign = float(np.mean(values)), -1 if measure in LOWER_IS_BETTER else 1
        held = found.get((measure, labels))
        if held is None or sign * mean > sign * held[1]:
            found[(measure, labels)] = (method, mean)
    return [
        {"measure": measure, "labels": labels, "method": method, "value": value}
        for (measure, labels), (method, value) in found.items()
    ]


def paired_bootstrap(
    differences: Sequence[float],
    seeds: Sequence[int],
    first: Sequence[str],
    second: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, float]:
    """Mean difference, its 95 % interval, and the two-sided p of no difference.

    Cases and seeds are drawn with replacement, independently of each other; a difference counts as often as its seed
    and its case (of landmarks: both its cases) were drawn.

    Args:
        differences: (n,) of paired scores.
        seeds, first: (n,) of each.
        second: (n,) the other case, of scores of a pair of cases.

    Returns:
        `difference`, `low`, `high`, `p_bootstrap` (at least 1 / resamples).
    """
    given = np.asarray(differences, np.float64)
    names, places = np.unique([*first, *(second or [])], return_inverse=True)
    one, two = places[: len(given)], places[len(given) :] if second is not None else None
    runs, run = np.unique(list(seeds), return_inverse=True)
    sums, counts = _sums(given, run, one, two, len(runs), len(names))
    rng = np.random.default_rng(seed)
    times_run, times = (_times(rng, resamples, number) for number in (len(runs), len(names)))
    if two is None:
        total, number = ((times_run @ part * times).sum(axis=1) for part in (sums, counts))
    else:  # by seed first: what a draw of cases gives, then the seeds' weights
        total, number = (
            sum(times_run[:, n] * ((times @ of_run) * times).sum(axis=1) for n, of_run in enumerate(part))
            for part in (sums, counts)
        )
    means_ = total[number > 0] / number[number > 0]
    low, high = np.quantile(means_, [0.025, 0.975])
    p = 2 * min((means_ <= 0).mean(), (means_ >= 0).mean())
    return {
        "difference": float(given.mean()),
        "low": float(low),
        "high": float(high),
        "p_bootstrap": float(min(max(p, 1 / resamples), 1.0)),
    }


def _times(rng: np.random.Generator, resamples: int, number: int) -> NDArray[np.float64]:
    """(resamples, number) how often each of `number` things is drawn when as many are drawn with replacement."""
    drawn = rng.integers(number, size=(resamples, number)) + number * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * number).reshape(resamples, number).astype(float)


def _sums(
    given: NDArray[np.float64], run: NDArray[Any], one: NDArray[Any], two: NDArray[Any] | None, runs: int, cases: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and counts by seed and case, or by seed, case and other case: a resample is then a small product."""
    shape = (runs, cases) if two is None else (runs, cases, cases)
    sums, counts = np.zeros(shape), np.zeros(shape)
    at = (run, one) if two is None else (run, one, two)
    np.add.at(sums, at, given)
    np.add.at(counts, at, 1.0)
    return sums, counts


def signed_rank(differences: Sequence[float], cases: Sequence[str]) -> float:
    """Wilcoxon signed-rank p over cases, each with the mean of its differences; 1 where all are zero."""
    by_case: dict[str, list[float]] = {}
    for case, value in zip(cases, differences, strict=True):
        by_case.setdefault(case, []).append(value)
    values = np.array([np.mean(of) for of in by_case.values()])
    return float(wilcoxon(values).pvalue) if values.any() else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm, 1979)."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min((len(p) - rank) * p[place], 1.0))
        corrected[place] = highest
    return [float(value) for value in corrected]


def paired_tests(units: Sequence[Unit], reference: str, *, seed: int = 0) -> list[dict[str, Any]]:
    """Every arm against one, over the cases and seeds that both have, by measure and number of labels."""
    kinds = list(dict.fromkeys((unit.measure, unit.labels) for unit in units))
    found = []
    for measure, labels in kinds:
        here = [unit for unit in units if (unit.measure, unit.labels) == (measure, labels)]
        known = {(unit.seed, unit.case, unit.key): unit.value for unit in here if unit.method == reference}
        rows: list[dict[str, Any]] = []
        for method in dict.fromkeys(unit.method for unit in here):
            its = [u for u in here if u.method == method and (u.seed, u.case, u.key) in known]
            if method == reference or not its:
                continue
            differences = [unit.value - known[(unit.seed, unit.case, unit.key)] for unit in its]
            second = [unit.key.split("/")[0] for unit in its] if its[0].key else None
            seeds, cases = [unit.seed for unit in its], [unit.case for unit in its]
            rows.append(
                {
                    "measure": "landmark_mean_mm" if measure == "landmark_mm" else measure,
                    "labels": labels,
                    "method": method,
                    "reference": reference,
                    **paired_bootstrap(differences, seeds, cases, second, seed=seed),
                    "p_wilcoxon": signed_rank(differences, cases),
                    "cases": len(set(cases)),
                    "seeds": len(set(seeds)),
                }
            )
        corrected = holm([float(row["p_bootstrap"]) for row in rows])
        found += [{**row, "p_holm": p} for row, p in zip(rows, corrected, strict=True)]
    return found
