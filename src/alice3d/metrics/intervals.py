"""Bootstrap confidence intervals over cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

RESAMPLES = 10_000
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


def mean_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, float]:
    """Mean of the values and its percentile bootstrap interval (Efron and Tibshirani, 1993).

    Args:
        values: one per case; cases are resampled with replacement.
        level: fraction of the resampled means between `low` and `high`.
        resamples: number of them.
        seed: of the resampling.

    Returns:
        `mean`, `low`, `high`; all NaN without values, all equal with one.
    """
    given = np.asarray(values, np.float64)
    if not len(given):
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan")}
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            given[rng.integers(len(given), size=(min(1000, resamples - first), len(given)))].mean(axis=1)
            for first in range(0, resamples, 1000)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return {"mean": float(given.mean()), "low": float(low), "high": float(high)}


def pair_interval(
    values: Sequence[float],
    first: Sequence[str],
    second: Sequence[str],
    *,
    median: bool = False,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, float]:
    """Mean or median of values that belong to pairs of cases, and its bootstrap interval over cases.

    Cases are resampled with replacement, and a value is weighted by the product of the counts of its two cases:
    values of one case are not independent, so an interval over values would be far too narrow.

    Args:
        values: (n,) one or more per pair.
        first, second: (n,) the cases of each value's pair.
        median: instead of the mean.
        level, resamples, seed: as `mean_interval`.

    Returns:
        `mean` (or `median`), `low`, `high`; all NaN without values.
    """
    name = "median" if median else "mean"
    given = np.asarray(values, np.float64)
    if not len(given):
        return {name: float("nan"), "low": float("nan"), "high": float("nan")}
    cases, places = np.unique([list(first), list(second)], return_inverse=True)
    one, two = places.reshape(2, -1)
    order = np.argsort(given, kind="stable")
    given, one, two = given[order], one[order], two[order]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(len(cases), size=len(cases)), minlength=len(cases))
        weight = times[one] * times[two]
        total = weight.sum()
        if not total:
            continue  # no pair with both cases in the sample
        if median:  # as np.median of the values repeated: the mean of the two in the middle where their number is even
            middle = [np.searchsorted(np.cumsum(weight), total / 2, side) for side in SIDES]
            found.append(given[middle].mean())
        else:
            found.append((given * weight).sum() / total)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2]) if found else (float("nan"),) * 2
    centre = np.median(given) if median else given.mean()
    return {name: float(centre), "low": float(low), "high": float(high)}
