"""Confidence intervals over cases that hold for few of them; `benchmarks/interval_coverage.py` measures how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
RESAMPLES = 10_000
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
UNBOUNDED = (-np.inf, np.inf)
FRACTION = (0.0, 1.0)
"""Range of Dice, NSD and accuracy."""
NOT_NEGATIVE = (0.0, np.inf)
"""Range of distances."""


def means_of(values: Sequence[float], patients: Sequence[str]) -> list[float]:
    """Mean of the values of each patient, in the order of their first ones.

    Args:
        values: one per case.
        patients: whose case it is.
    """
    found: dict[str, list[float]] = {}
    for value, patient in zip(values, patients, strict=True):
        found.setdefault(patient, []).append(value)
    return [float(np.mean(its)) for its in found.values()]


def mean_interval(
    values: Sequence[float],
    patients: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    bounds: tuple[float, float] = UNBOUNDED,
) -> dict[str, float]:
    """Mean of the values and its interval by Student's t.

    Args:
        values: one per case.
        patients: whose case each is: the mean, and the interval, are over the means of patients. Left out, each case
            is a patient.
        level: of confidence.
        bounds: least and greatest possible mean; the interval ends there.

    Returns:
        `mean`, `low`, `high`; all NaN without values. One value has no interval: `low` and `high` are NaN.
    """
    given = np.asarray(values if patients is None else means_of(values, patients), np.float64)
    if not len(given):
        return {"mean": float("nan"), "low": float("nan"), "high": float("nan")}
    mean = float(given.mean())
    if len(given) == 1:
        return {"mean": mean, "low": float("nan"), "high": float("nan")}
    half = t_quantile(len(given) - 1, level) * given.std(ddof=1) / np.sqrt(len(given))
    return {"mean": mean, "low": float(max(mean - half, bounds[0])), "high": float(min(mean + half, bounds[1]))}


def t_quantile(freedom: int, level: float) -> float:
    """Student's t that is exceeded in absolute value with probability 1 - level."""
    return float(stats.t.isf((1 - level) / 2, freedom))


def percentile_interval(resampled: Floats, cases: int, *, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval, widened as few cases need it (expanded percentile; Hesterberg, The American
    Statistician 2015).

    The plain one is too narrow: the resamples' deviation lacks the factor sqrt(n / (n - 1)), and their quantiles are
    those of a normal distribution in place of Student's t.

    Args:
        resampled: (r,) the statistic of each resample.
        cases: number of cases, n.
        level: of confidence.

    Returns:
        low and high; NaN with fewer than two cases or without resamples.
    """
    if cases < 2 or not len(resampled):
        return float("nan"), float("nan")
    tail = stats.norm.sf(np.sqrt(cases / (cases - 1)) * t_quantile(cases - 1, level))
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def pair_interval(
    values: Sequence[float],
    first: Sequence[str],
    second: Sequence[str],
    *,
    median: bool = False,
    level: float = 0.95,
    bounds: tuple[float, float] = UNBOUNDED,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """Mean or median of values that belong to pairs of cases, and its interval over cases.

    Values of one case are not independent, so an interval over values would be far too narrow. That of the mean is
    Student's t on the jackknife over cases, a case leaving with all its pairs; that of the median an expanded
    percentile bootstrap over cases, in which a value is weighted by the product of the counts of its two cases, or by
    the one count where both are the same.

    Args:
        values: (n,) one or more per pair.
        first, second: (n,) the cases of each value's pair; where several cases are of one patient, the patients.
        median: instead of the mean.
        level: of confidence.
        bounds: least and greatest possible mean; its interval ends there.
        resamples, seed: of the bootstrap.

    Returns:
        `mean` (or `median`), `low`, `high`; all NaN without values. Two cases have no interval: NaN.
    """
    name = "median" if median else "mean"
    given = np.asarray(values, np.float64)
    if not len(given):
        return {name: float("nan"), "low": float("nan"), "high": float("nan")}
    cases, places = np.unique([list(first), list(second)], return_inverse=True)
    one, two = places.reshape(2, -1)
    if median:
        drawn = _resampled_medians(given, one, two, len(cases), resamples, seed)
        low, high = percentile_interval(drawn, len(cases) if len(cases) > 2 else 0, level=level)
        return {name: float(np.median(given)), "low": low, "high": high}
    centre, within = float(given.mean()), pseudo_values(given, one, two, len(cases))
    half = t_quantile(len(cases) - 1, level) * within.std(ddof=1) / np.sqrt(len(cases)) if len(cases) > 1 else np.nan
    low, high = np.clip([centre - half, centre + half], *bounds)
    return {name: centre, "low": float(low), "high": float(high)}


def pseudo_values(given: Floats, one: NDArray[np.int64], two: NDArray[np.int64] | None, cases: int) -> Floats:
    """Jackknife pseudo-values (cases,) of a mean: n times the mean of all less n - 1 times that without the case.

    With one value per case they are the values. A case without values has the mean; NaN where nothing is left
    without the case.

    Args:
        given: (n,) values.
        one, two: (n,) indices of each value's case, and of its other case.
        cases: number of cases.
    """
    sums, counts = np.bincount(one, given, cases), np.bincount(one, minlength=cases)
    if two is not None:
        other = two != one
        sums = sums + np.bincount(two[other], given[other], cases)
        counts = counts + np.bincount(two[other], minlength=cases)
    present = int((counts > 0).sum())
    left = len(given) - counts
    without = np.divide(given.sum() - sums, left, out=np.full(cases, np.nan), where=left > 0)
    out: Floats = present * given.mean() - (present - 1) * without
    return out


def _resampled_medians(
    given: Floats, one: NDArray[np.int64], two: NDArray[np.int64], cases: int, resamples: int, seed: int
) -> Floats:
    """Median of each resample of cases that holds a pair."""
    order = np.argsort(given, kind="stable")
    given, one, two = given[order], one[order], two[order]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(cases, size=cases), minlength=cases)
        weight = np.cumsum(times[one] * np.where(one == two, 1, times[two]))
        if not weight[-1]:
            continue  # no pair with both cases in the sample
        # as np.median of the values repeated: the mean of the two in the middle where their number is even
        middle = [np.searchsorted(weight, weight[-1] / 2, side) for side in SIDES]
        found.append(given[middle].mean())
    return np.array(found)


def in_words(interval: Mapping[str, float | None], digits: int, centre: str = "mean") -> str:
    """`0.812 (0.790 to 0.834)`; the centre alone where there is no interval."""
    low, high, middle = interval["low"], interval["high"], interval[centre]
    text = "none" if middle is None or np.isnan(middle) else f"{middle:.{digits}f}"
    if low is None or high is None or np.isnan(low) or np.isnan(high):
        return text
    return f"{text} ({low:.{digits}f} to {high:.{digits}f})"
