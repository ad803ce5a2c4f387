"""Paired tests against slow oracles and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alice3d.metrics.paired_tests import holm, paired_bootstrap, signed_rank


@pytest.mark.parametrize("paired", [False, True])
def test_bootstrap_equals_its_definition(paired):
    rng = np.random.default_rng(1)
    n = 40
    seeds, first = rng.integers(0, 3, n), rng.integers(0, 5, n)
    second = (first + 1 + rng.integers(0, 4, n)) % 5
    values = rng.normal(0.3, 1, n)
    fast = paired_bootstrap(
        values.tolist(), seeds.tolist(), first.tolist(), second.tolist() if paired else None, resamples=300
    )
    again = np.random.default_rng(0)
    slow = []
    for runs, cases in zip(again.integers(3, size=(300, 3)), again.integers(5, size=(300, 5)), strict=True):
        drawn = [
            value
            for value, seed, one, two in zip(values, seeds, first, second, strict=True)
            for _ in range((runs == seed).sum() * (cases == one).sum() * ((cases == two).sum() if paired else 1))
        ]
        if drawn:
            slow.append(np.mean(drawn))
    np.testing.assert_allclose([fast["low"], fast["high"]], np.quantile(slow, [0.025, 0.975]))
    assert fast["p_bootstrap"] == pytest.approx(2 * min((np.array(slow) <= 0).mean(), (np.array(slow) >= 0).mean()))


def test_signed_rank_is_over_cases():
    values = np.random.default_rng(0).normal(0.2, 1, (10, 3))
    cases = [f"c{n}" for n in range(10) for _ in range(3)]
    assert signed_rank(values.ravel().tolist(), cases) == pytest.approx(stats.wilcoxon(values.mean(axis=1)).pvalue)
    assert signed_rank([0.0, 0.0], ["a", "b"]) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
