"""Bootstrap intervals against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from alice3d.evaluation.bootstrap import mean_interval


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
