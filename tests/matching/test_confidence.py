"""Confidence of matches: coefficients in the card, the hand-set rule, refusals, and where they are used."""

from __future__ import annotations

import numpy as np
import pytest
from place_net import CARD, PlaceNet

from alice3d.errors import UserError
from alice3d.geometry import Grid, diagonal_affine
from alice3d.matching import Matcher
from alice3d.matching.confidence import (
    IN_BODY,
    KINDS,
    MATCH_FEATURES,
    MOST_MM,
    Acceptance,
    Confidence,
    ErrorModel,
    beyond_mm,
    transformed,
)

MODEL = ErrorModel(
    inputs=("similarity", "cycle_mm"),
    centre=(0.8, 1.0),
    scale=(0.1, 0.5),
    outside=(-4.0, -1.0, 0.5),
    far_10mm=(-1.0, -2.0, 1.0),
    far_20mm=(-3.0, -2.0, 1.0),
    log_mm=(2.0, -0.3, 0.4),
    most_far=0.5,
)
CALIBRATED = {"trust": {"models": {kind: MODEL.to_card() for kind in KINDS}}}


def features(**values: list[float]) -> dict[str, np.ndarray]:
    rows = len(next(iter(values.values())))
    usual = {name: np.zeros(rows) for name in MATCH_FEATURES}
    return {**usual, **{name: np.array(column) for name, column in values.items()}}


def test_the_model_is_the_formula():
    found = MODEL.probability(features(similarity=[0.9, 0.5], cycle_mm=[4.0, 20.0]))
    for n, (similarity, cycle) in enumerate([(0.9, 4.0), (0.5, 20.0)]):
        x, y = (similarity - 0.8) / 0.1, (np.log(1 + cycle / 4) - 1.0) / 0.5
        outside, far = 1 / (1 + np.exp(-(-4 - x + y / 2))), 1 / (1 + np.exp(-(-1 - 2 * x + y)))
        assert found[n] == pytest.approx(outside + (1 - outside) * far)
    expected = MODEL.expected_mm(features(similarity=[0.8, -0.9], cycle_mm=[4 * (np.e - 1), 100.0]))
    outside = 1 / (1 + np.exp(4.0))
    np.testing.assert_allclose(expected, [outside * MOST_MM + (1 - outside) * np.exp(2.0), MOST_MM], rtol=1e-3)


def test_distances_inside_a_scan_stop_counting():
    np.testing.assert_array_equal(transformed("beyond_mm", np.array([-300.0, -3.0, 500.0])), [-24, -3, 40])


def test_a_card_keeps_the_model_and_faulty_ones_are_refused():
    assert Confidence.from_card(CALIBRATED).models["robust"] == MODEL
    whole = MODEL.to_card()
    faults = [
        ({**whole, "far_10mm": [1.0]}, "far_10mm does not fit 2 inputs"),
        ({**whole, "inputs": ["similarity", "mood"]}, "no feature 'mood'"),
        ({**whole, "centre": ["a", 1]}, "not a number"),
        ({**whole, "scale": [float("nan"), 1]}, "scale does not fit"),
        ({}, "needs centre"),
    ]
    for faulty, message in faults:
        models = dict.fromkeys(KINDS, faulty)
        with pytest.raises(UserError, match=message):
            Confidence.from_card({"trust": {"models": models}})
    with pytest.raises(UserError, match="models for direct, robust, rows are needed"):
        Confidence.from_card({"trust": {"models": {"robust": whole}}})


def test_without_a_model_the_rule_chosen_by_hand_holds():
    seen = features(
        similarity=[0.6, 0.4, 0.6, 0.6, 0.6], cycle_mm=[3, 3, 30, 3, 3], apart_mm=[1, 1, 1, 99, 1],
        certainty=[0.9, 0.9, 0.9, 0.9, 0.1],
    )  # fmt: skip
    confidence = Confidence.from_card({})
    assert confidence.acceptance == Acceptance()
    expected = {"direct": [1, 0, 0, 1, 1], "rows": [1, 0, 0, 0, 1], "robust": [1, 0, 0, 1, 0]}
    for kind, wanted in expected.items():
        estimated = confidence.estimate(kind, seen)
        np.testing.assert_array_equal(estimated.accepted, np.array(wanted, bool), kind)
        assert np.isnan(estimated.far_10mm).all()


def test_without_a_map_nothing_but_direct_matches_is_believed():
    seen = {"similarity": np.ones(3), "cycle_mm": np.zeros(3)}
    for matching in ({}, CALIBRATED):
        confidence = Confidence.from_card(matching)
        assert confidence.estimate("direct", seen).accepted.all()
        assert not confidence.estimate("robust", seen).accepted.any()
        assert not confidence.estimate("rows", seen).accepted.any()
    assert (Confidence.from_card(CALIBRATED).estimate("robust", seen).far_10mm == 1).all()


def test_how_far_beyond_a_scan():
    grid = Grid((10, 20, 30), diagonal_affine((2.0, 2.0, 4.0), np.array([0.0, 0.0, 0.0])))
    points = [[9, 19, 58], [0, 19, 58], [9, 19, 126], [-11, 19, 58]]
    np.testing.assert_allclose(beyond_mm(grid, np.array(points, float)), [-10, -1, 8, 10])


@pytest.mark.parametrize("mode", ["direct", "robust"])
def test_a_calibrated_matcher_predicts_its_errors(query_input, key_input, points, mode):
    matcher = Matcher(PlaceNet(), {**CARD, "matching": {**CARD["matching"], **CALIBRATED}}, "place")
    query, key = matcher.embed(query_input), matcher.embed(key_input)
    found = matcher.match(query, key, points, mode=mode)
    assert set(found.features) == {*KINDS[mode], IN_BODY}
    np.testing.assert_allclose(found.far_10mm, MODEL.probability(found.features))
    assert (found.far_20mm <= found.far_10mm).all()
    np.testing.assert_array_equal(found.accepted, found.far_10mm <= MODEL.most_far)
    rows = matcher.fit(query, key).rows
    np.testing.assert_array_equal(rows.accepted, rows.far_10mm <= MODEL.most_far)


def test_a_point_outside_the_key_is_seen_to_be_outside(matcher, query_input, key_input):
    """The key ends below the anatomy's middle: the map predicts positions beyond the upper face of the key."""
    stop = np.array(key_input.grid.shape) - [0, 0, 22]
    cut = key_input.cropped(np.zeros(3, int), stop)
    assert cut.image.shape[1:] == cut.body.shape == cut.grid.shape == tuple(stop)
    np.testing.assert_allclose(cut.grid.world(np.zeros(3)), key_input.grid.world(np.zeros(3)))
    low, high = np.asarray(cut.body_box_mm)
    assert (high[2] - low[2]) < 0.7 * np.diff(np.asarray(key_input.body_box_mm)[:, 2])
    query, key = matcher.embed(query_input), matcher.embed(cut)
    points = np.array([[5.0, 5.0, 45.0], [5.0, 5.0, -40.0]])
    seen = matcher.match(query, key, points, mode="robust").features["beyond_mm"]
    assert seen[0] > 10
    assert seen[1] < -10
