"""Paired comparisons over cases and seeds: interval and test of a difference, signed ranks, Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from alice3d.metrics.intervals import pseudo_values, t_quantile

LEAST_P = 1e-12

Component = tuple[float, int]
"""A part of the variance of the mean difference, and its degrees of freedom."""


def paired_difference(
    differences: Sequence[float],
    seeds: Sequence[int],
    first: Sequence[str],
    second: Sequence[str] | None = None,
    *,
    level: float = 0.95,
) -> dict[str, float]:
    """Mean difference, its interval, and the two-sided p of no difference; for other cases and other seeds.

    Cases and seeds are crossed random effects. Their variance components and that of their interaction come from an
    analysis of variance of the table cases x seeds (for pairs of cases of its jackknife pseudo-values), and the
    interval's half width is the root of the sum of squared half widths, each with Student's t of its own degrees of
    freedom (Howe, JASA 1974): two degrees of freedom, where three seeds differ, make it wide. With one seed the
    interval is for other cases only, with one case for other seeds only.

    Args:
        differences: (n,) of paired scores.
        seeds, first: (n,) of each.
        second: (n,) the other case, of scores of a pair of cases.
        level: of confidence.

    Returns:
        `difference`, `low`, `high`, `p`; the last three NaN where neither cases nor seeds vary.
    """
    given = np.asarray(differences, np.float64)
    centre, parts = float(given.mean()), variance_components(_by_case_and_seed(given, seeds, first, second))
    if parts is None:
        return {"difference": centre, "low": float("nan"), "high": float("nan"), "p": float("nan")}
    half = half_width(parts, level)
    return {"difference": centre, "low": centre - half, "high": centre + half, "p": p_value(centre, parts)}


def _by_case_and_seed(
    given: NDArray[np.float64], seeds: Sequence[int], first: Sequence[str], second: Sequence[str] | None
) -> NDArray[np.float64]:
    """(cases, seeds) differences; where they belong to pairs of cases, pseudo-values."""
    names, places = np.unique([*first, *(second or [])], return_inverse=True)
    one, two = places[: len(given)], places[len(given) :] if second is not None else None
    runs, run = np.unique(list(seeds), return_inverse=True)
    columns = []
    for number in range(len(runs)):
        of = run == number
        columns.append(pseudo_values(given[of], one[of], None if two is None else two[of], len(names)))
    return np.stack(columns, axis=1)


def variance_components(table: NDArray[np.float64]) -> list[Component] | None:
    """Parts of the variance of the mean of (cases, seeds) values: of cases, of seeds, of both together.

    A negative estimate counts as none. None where one case and one seed say nothing, and where a value is NaN.
    """
    cases, seeds = table.shape
    if not np.isfinite(table).all():
        return None
    if cases == 1 or seeds == 1:
        values = table.ravel()
        return [(float(values.var(ddof=1) / len(values)), len(values) - 1)] if len(values) > 1 else None
    by_case, by_seed = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_case[:, None] - by_seed + table.mean()
    freedom = (cases - 1) * (seeds - 1)
    of_both = float((rest**2).sum() / freedom)
    of_cases = max(seeds * float(by_case.var(ddof=1)) - of_both, 0.0)
    of_seeds = max(cases * float(by_seed.var(ddof=1)) - of_both, 0.0)
    return [
        (of_cases / table.size, cases - 1),
        (of_seeds / table.size, seeds - 1),
        (of_both / table.size, freedom),
    ]


def half_width(parts: Sequence[Component], level: float) -> float:
    """Of the interval of a mean whose variance has these parts."""
    return float(np.sqrt(sum(t_quantile(freedom, level) ** 2 * variance for variance, freedom in parts)))


def p_value(centre: float, parts: Sequence[Component]) -> float:
    """One minus the level of the interval that ends at no difference; at least `LEAST_P`."""
    if not centre:
        return 1.0

    def beyond(log_p: float) -> float:
        return half_width(parts, 1 - np.exp(log_p)) - abs(centre)

    least = float(np.log(LEAST_P))
    if beyond(least) <= 0:
        return LEAST_P
    return float(np.exp(brentq(beyond, least, 0.0)))


def signed_rank(differences: Sequence[float], cases: Sequence[str]) -> float:
    """Wilcoxon signed-rank p over cases, each with the mean of its differences; 1 where all are zero."""
    by_case: dict[str, list[float]] = {}
    for case, value in zip(cases, differences, strict=True):
        by_case.setdefault(case, []).append(value)
    values = np.array([np.mean(of) for of in by_case.values()])
    return float(stats.wilcoxon(values).pvalue) if values.any() else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm, 1979); NaN stays NaN and is not counted."""
    values = np.asarray(p, np.float64)
    known = np.flatnonzero(~np.isnan(values))
    corrected: NDArray[Any] = np.full(len(values), np.nan)
    highest = 0.0
    for rank, place in enumerate(known[np.argsort(values[known])]):
        highest = max(highest, min((len(known) - rank) * float(values[place]), 1.0))
        corrected[place] = highest
    return [float(value) for value in corrected]
