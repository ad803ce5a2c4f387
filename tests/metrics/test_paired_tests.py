"""Paired tests against SciPy, by hand, and by how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alice3d.metrics.intervals import pair_interval
from alice3d.metrics.paired_tests import holm, paired_difference, signed_rank, variance_components

CASES, SEEDS = [f"c{n}" for n in range(10) for _ in range(3)], [0, 1, 2] * 10


def crossed(rng: np.random.Generator, cases: int, seeds: int, spread: tuple[float, float, float]) -> np.ndarray:
    """(cases, seeds) differences of two arms that do not differ."""
    of_cases, of_seeds, of_both = spread
    table = rng.normal(0, of_cases, (cases, 1)) + rng.normal(0, of_seeds, (1, seeds))
    return table + rng.normal(0, of_both, (cases, seeds))


def paired(table: np.ndarray) -> dict[str, float]:
    cases, seeds = table.shape
    names = [f"c{case}" for case in range(cases) for _ in range(seeds)]
    return paired_difference(table.ravel().tolist(), list(range(seeds)) * cases, names)


def test_with_one_seed_it_is_the_paired_t_test():
    values = np.random.default_rng(1).normal(0.5, 1, (12, 1))
    found, oracle = paired(values), stats.ttest_1samp(values[:, 0], 0)
    assert found["p"] == pytest.approx(oracle.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(tuple(oracle.confidence_interval()))


def test_where_only_seeds_vary_there_are_as_many_values_as_seeds():
    values = np.random.default_rng(1).normal(0.5, 1, (1, 3))
    found = paired(np.repeat(values, 50, axis=0))
    oracle = stats.ttest_1samp(values[0], 0)
    assert found["p"] == pytest.approx(oracle.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(tuple(oracle.confidence_interval()))


def test_variance_components_by_hand():
    table = np.array([[1.0, 2.0, 6.0], [3.0, 5.0, 7.0], [9.0, 8.0, 13.0], [2.0, 4.0, 3.0]])
    by_case, by_seed = table.mean(axis=1), table.mean(axis=0)
    rest = (table - by_case[:, None] - by_seed + table.mean()).ravel()
    error = rest @ rest / 6
    cases, seeds, both = variance_components(table)
    assert cases == (pytest.approx((3 * by_case.var(ddof=1) - error) / 12), 3)
    assert seeds == (pytest.approx((4 * by_seed.var(ddof=1) - error) / 12), 2)
    assert both == (pytest.approx(error / 12), 6)


@pytest.mark.parametrize(("cases", "seeds"), [(6, 3), (36, 3), (100, 3), (36, 5), (10, 10)])
def test_a_difference_that_is_not_there_is_found_in_one_of_twenty(cases, seeds):
    """By the percentile bootstrap over cases and three seeds it is found in one of six."""
    rng = np.random.default_rng(0)
    found = [paired(crossed(rng, cases, seeds, (0.04, 0.025, 0.02))) for _ in range(600)]
    assert 0.02 <= np.mean([one["p"] < 0.05 for one in found]) <= 0.07
    assert all((one["p"] < 0.05) == (one["low"] > 0 or one["high"] < 0) for one in found)


def test_a_difference_that_is_there_is_found():
    found = paired(crossed(np.random.default_rng(0), 20, 5, (0.04, 0.005, 0.02)) + 0.1)
    assert found["p"] < 1e-4
    assert found["low"] > 0.05


def test_pairs_of_cases_count_as_cases():
    """Errors of 6 patients in 30 ordered pairs, three seeds: as the jackknife over patients says, where seeds agree."""
    rng = np.random.default_rng(0)
    pairs = [(one, two) for one in "abcdef" for two in "abcdef" if one != two]
    values = rng.normal(0.3, 1, len(pairs))
    one, two = (list(names) * 3 for names in zip(*pairs, strict=True))
    found = paired_difference(np.tile(values, 3).tolist(), np.repeat([0, 1, 2], len(pairs)).tolist(), one, two)
    alone = pair_interval(values.tolist(), one[: len(pairs)], two[: len(pairs)])
    assert (found["low"], found["high"]) == pytest.approx((alone["low"], alone["high"]))


def test_where_nothing_varies_nothing_is_said():
    found = paired_difference([0.2], [0], ["a"])
    assert found["difference"] == 0.2
    assert np.isnan([found["low"], found["high"], found["p"]]).all()
    assert paired_difference([0.0] * 30, SEEDS, CASES)["p"] == 1.0
    assert paired_difference([0.5] * 30, SEEDS, CASES)["p"] <= 1e-12


def test_signed_rank_is_over_cases():
    values = np.random.default_rng(0).normal(0.2, 1, (10, 3))
    cases = [f"c{n}" for n in range(10) for _ in range(3)]
    assert signed_rank(values.ravel().tolist(), cases) == pytest.approx(stats.wilcoxon(values.mean(axis=1)).pvalue)
    assert signed_rank([0.0, 0.0], ["a", "b"]) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02, float("nan"), 0.04]) == [0.04, pytest.approx(float("nan"), nan_ok=True), 0.04]
