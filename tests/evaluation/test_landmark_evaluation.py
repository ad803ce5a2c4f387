"""Numbers of the landmark evaluation against hand counts and scikit-learn."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from alice3d.data.tables.landmarks import Landmarks
from alice3d.evaluation.landmarks import PointErrors, ordered_pairs, same_place_in_box, summarise
from alice3d.metrics.classification import auroc_of


def marks(**cases: str) -> Landmarks:
    return Landmarks({case: {name: np.zeros(3) for name in names} for case, names in cases.items()}, ())


def test_pairs_are_ordered_and_share_a_structure():
    found = ordered_pairs(marks(a="xy", b="y", c="z"))
    assert found == [("a", "b"), ("b", "a")]


def test_beyond_the_limit_a_seeded_draw_is_taken():
    many = marks(**{f"c{n:02d}": "x" for n in range(20)})
    assert len(ordered_pairs(many)) == 380
    one, two, other = (ordered_pairs(many, limit=50, seed=seed) for seed in (0, 0, 1))
    assert len(set(one)) == 50
    assert one == two != other


def test_auroc_against_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 9, 300), rng.random(300) < 0.3
    assert auroc_of(positive, score) == pytest.approx(roc_auc_score(positive, score))
    assert np.isnan(auroc_of(np.ones(300, bool), score))


def test_same_place_in_the_box():
    class Scan:
        def __init__(self, low, high):
            self.body_box_mm = (low, high)

    place = same_place_in_box(
        Scan((0, 0, 0), (10, 20, 40)), Scan((100, -10, 0), (120, 10, 10)), np.array([[5.0, 5.0, 30.0]])
    )
    np.testing.assert_allclose(place, [[110, -5, 7.5]])


def test_overall_is_the_mean_over_points_not_over_structures():
    errors = PointErrors(
        structure=np.array(["a", "a", "a", "b"]),
        query=np.array(["p", "p", "q", "p"]),
        key=np.array(["q", "r", "r", "q"]),
        error_mm=np.array([2.0, 4.0, 12.0, 30.0]),
        box_mm=np.array([10.0, 20.0, 30.0, 40.0]),
        untrained_mm=np.array([50.0, 50.0, 50.0, 90.0]),
        cycle_mm=np.array([1.0, 2.0, 9.0, 8.0]),
        similarity=np.ones(4),
        certainty=np.ones(4),
        far_10mm=np.array([0.1, 0.2, 0.8, 0.9]),
        far_20mm=np.array([0.0, 0.1, 0.5, 0.4]),
        expected_mm=np.array([3.0, 5.0, 14.0, 20.0]),
        accepted=np.array([True, True, True, False]),
    )
    found = summarise(errors, skipped_cases=2)
    assert (found["pairs"], found["points"], found["skipped_cases"]) == (3, 4, 2)
    assert (found["mean_mm"], found["median_mm"]) == (12.0, 8.0)
    assert (found["within_5mm"], found["within_10mm"]) == (0.5, 0.5)
    assert found["cycle_auroc_10mm"] == 1.0
    assert found["accepted_share"] == 0.75
    assert found["accepted_within_10mm"] == pytest.approx(2 / 3)
    assert (found["baseline_box_mean_mm"], found["baseline_box_median_mm"]) == (25.0, 25.0)
    assert found["baseline_untrained_mean_mm"] == 60.0
    assert found["by_structure"]["a"]["mean_mm"] == 6.0
    assert found["by_structure"]["b"]["cycle_auroc_10mm"] is None
    trust = found["trust"]
    assert (trust["foretold_auroc_10mm"], trust["cycle_auroc_10mm"]) == (1.0, 1.0)
    assert trust["foretold_auroc_20mm"] == pytest.approx(2 / 3)
    assert (trust["far_10mm"], trust["true_far_10mm"], trust["expected_mm"]) == (0.5, 0.5, 10.5)
    nothing = np.full(4, np.nan)
    left_out = dataclasses.replace(
        errors, untrained_mm=nothing, far_10mm=nothing, far_20mm=nothing, expected_mm=nothing
    )
    plain = summarise(left_out, skipped_cases=0)
    assert "NaN" not in json.dumps(plain)
    assert plain["trust"]["reliability"] is None
    assert plain["trust"]["foretold_auroc_10mm"] is None
