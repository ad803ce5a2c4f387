"""Intervals against SciPy, against their definition, and by how often they hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from alice3d.metrics.intervals import (
    FRACTION,
    in_words,
    mean_interval,
    pair_interval,
    percentile_interval,
    pseudo_values,
)


def test_interval_equals_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=7)
    ours = mean_interval(values.tolist(), level=0.9)
    oracle = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert ours["mean"] == pytest.approx(values.mean())
    assert (ours["low"], ours["high"]) == pytest.approx(tuple(oracle))


def test_interval_ends_at_what_is_possible():
    found = mean_interval([0.99, 1.0, 0.9], bounds=FRACTION)
    assert found["high"] == 1.0
    assert 0 < found["low"] < 0.9


def test_one_value_has_no_interval():
    one = mean_interval([0.5])
    assert one["mean"] == 0.5
    assert math.isnan(one["low"])
    assert math.isnan(one["high"])
    assert all(math.isnan(value) for value in mean_interval([]).values())
    assert [in_words(found, 2) for found in (one, mean_interval([]))] == ["0.50", "none"]
    assert in_words({"mean": 0.5, "low": 0.25, "high": 0.75}, 2) == "0.50 (0.25 to 0.75)"


def test_mean_intervals_hold_as_often_as_they_say():
    """The percentile bootstrap, which they replaced, holds 83 % with 6 cases."""
    rng = np.random.default_rng(0)
    held = [found["low"] <= 0 <= found["high"] for found in (mean_interval(rng.normal(size=6)) for _ in range(2000))]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_expanded_percentiles_are_wider_where_cases_are_few():
    resampled = np.random.default_rng(0).normal(size=20_000)
    plain = np.quantile(resampled, [0.025, 0.975])
    few, many = percentile_interval(resampled, 6), percentile_interval(resampled, 10_000)
    assert few == pytest.approx((-2.816, 2.816), abs=0.15)  # sqrt(6 / 5) times t with 5 degrees of freedom
    assert many == pytest.approx(tuple(plain), abs=0.01)
    assert np.isnan(percentile_interval(resampled, 1)).all()


def test_two_patients_have_no_interval_over_patients():
    values = [72.1, 85.9]
    for median in (True, False):
        found = pair_interval(values, ["a", "a"], ["b", "b"], median=median)
        assert found["median" if median else "mean"] == 79.0
        assert math.isnan(found["low"])
        assert math.isnan(found["high"])


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
    assert (ours["low"], ours["high"]) == pytest.approx(percentile_interval(np.array(medians), 5))


def test_interval_of_a_mean_over_pairs_is_the_jackknife_over_cases():
    rng = np.random.default_rng(0)
    pairs = [(one, two) for one in "abcdef" for two in "abcdef" if one != two]
    values = rng.gamma(2.0, size=len(pairs))
    without = [np.mean([v for v, pair in zip(values, pairs, strict=True) if case not in pair]) for case in "abcdef"]
    spread = np.sqrt(5 / 6 * np.sum((np.array(without) - np.mean(without)) ** 2))
    found = pair_interval(values.tolist(), *zip(*pairs, strict=True))
    assert found["mean"] == pytest.approx(values.mean())
    assert found["high"] - found["mean"] == pytest.approx(stats.t.ppf(0.975, 5) * spread)
    assert found["mean"] - found["low"] == pytest.approx(found["high"] - found["mean"])


def test_pseudo_values_of_a_mean_are_its_values():
    values = np.array([3.0, 1.0, 7.0, 2.0])
    np.testing.assert_allclose(pseudo_values(values, np.array([2, 0, 1, 3]), None, 4), [1.0, 7.0, 3.0, 2.0])


def test_of_nothing_there_is_no_mean():
    assert np.isnan(pair_interval([], [], [])["mean"])
    assert (
        pair_interval([1.0, 2.0, 3.0, 10.0], ["a", "b", "a", "c"], ["b", "a", "c", "a"], median=True)["median"] == 2.5
    )


def test_several_cases_of_a_patient_count_as_one():
    values, patients = [0.9, 0.7, 0.5, 0.2, 0.6, 0.6], ["p", "p", "q", "r", "r", "r"]
    found = mean_interval(values, patients)
    assert found == mean_interval([0.8, 0.5, (0.2 + 0.6 + 0.6) / 3])
    assert mean_interval(values, list("abcdef")) == mean_interval(values)
    assert math.isnan(mean_interval(values, ["p"] * 6)["low"])


def test_a_pair_within_one_patient_weighs_as_that_patient():
    """Bootstrap weights against the oracle: every value repeated as often as its patients were drawn."""
    values, first, second = [1.0, 5.0, 9.0, 2.0], ["a", "a", "b", "c"], ["a", "b", "c", "c"]
    found = pair_interval(values, first, second, median=True, resamples=300, seed=3)
    rng, names = np.random.default_rng(3), ["a", "b", "c"]
    medians = []
    for _ in range(300):
        times = dict(zip(names, np.bincount(rng.integers(3, size=3), minlength=3), strict=True))
        counts = [times[a] * (1 if a == b else times[b]) for a, b in zip(first, second, strict=True)]
        repeated = np.repeat(values, counts)
        if len(repeated):
            medians.append(np.median(repeated))
    assert (found["low"], found["high"]) == pytest.approx(percentile_interval(np.array(medians), 3))
