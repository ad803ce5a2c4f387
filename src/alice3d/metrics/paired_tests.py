"""Paired comparisons: bootstrap of differences, signed ranks, and correction for many tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

RESAMPLES = 5000


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

    Cases and seeds are resampled with replacement, independently of each other; a difference is weighted by the
    product of the counts of its seed and its case (for landmarks: both its cases).

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
    else:  # by seed first: the sum of a resample of cases, then the seeds' weights
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
    """(resamples, number) counts of each of `number` items in samples of that size with replacement."""
    drawn = rng.integers(number, size=(resamples, number)) + number * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * number).reshape(resamples, number).astype(float)


def _sums(
    given: NDArray[np.float64], run: NDArray[Any], one: NDArray[Any], two: NDArray[Any] | None, runs: int, cases: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and counts by seed and case, or by seed, case and other case: a resample is then a small matrix product."""
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
