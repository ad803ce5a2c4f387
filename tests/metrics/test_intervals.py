"""Bootstrap intervals against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from alice3d.metrics.intervals import mean_interval, pair_interval


def test_interval_equals_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=30)
    ours = mean_interval(values, resamples=20_000)
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours["mean"] == pytest.approx(values.mean())
    assert ours["low"] == pytest.approx(oracle.low, abs=0.02)
    assert ours["high"] == pytest.approx(oracle.high, abs=0.02)


def test_same_seed_same_interval():
    values = [0.1, 0.7, 0.4, 0.9]
    assert mean_interval(values, seed=3) == mean_interval(values, seed=3)


def test_one_value_and_none():
    assert mean_interval([0.5]) == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert all(math.isnan(value) for value in mean_interval([]).values())


def test_median_of_pairs_is_the_same_in_value_and_interval():
    """Two cases: every resample that holds a whole pair holds each value equally often."""
    values = [72.1, 85.9]
    assert pair_interval(values, ["a", "a"], ["b", "b"], median=True) == {"median": 79.0, "low": 79.0, "high": 79.0}


def test_median_of_pairs_equals_the_median_of_repeated_values():
    rng = np.random.default_rng(0)
    cases = [f"case {n}" for n in range(5)]
    pairs = [(one, two) for one in cases for two in cases if one != two]
    values = rng.gamma(2.0, size=len(pairs))
    ours = pair_interval(values, *zip(*pairs, strict=True), median=True, resamples=200, seed=4)
    draw = np.random.default_rng(4)
    medians = []
    for _ in range(200):
        times = np.bincount(draw.integers(5, size=5), minlength=5)
        repeated = [
            v for v, (a, b) in zip(values, pairs, strict=True) for _ in range(times[int(a[-1])] * times[int(b[-1])])
        ]
        medians += [np.median(repeated)] if repeated else []
    assert (ours["low"], ours["high"]) == pytest.approx(tuple(np.quantile(medians, [0.025, 0.975])))


def test_a_value_counts_as_often_as_both_its_cases_are_drawn():
    first, second = ["a", "b", "a", "c"], ["b", "a", "c", "a"]
    values = [1.0, 2.0, 3.0, 10.0]
    interval = pair_interval(values, first, second)
    assert interval["mean"] == 4.0
    assert 1.5 <= interval["low"] < 4 < interval["high"] <= 6.5  # only a-b, only a-c
    assert pair_interval(values, first, second, median=True)["median"] == 2.5
    assert np.isnan(pair_interval([], [], [])["mean"])
