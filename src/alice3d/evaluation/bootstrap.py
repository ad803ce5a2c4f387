"""How sure a mean over cases is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


def mean_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, float]:
    """Mean of the values and its percentile bootstrap interval (Efron and Tibshirani, 1993).

    Args:
        values: one a case; cases are drawn with replacement.
        level: share of the resampled means that lies between `low` and `high`.
        resamples: number of them.
        seed: of the draws.

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
