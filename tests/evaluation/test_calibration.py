"""Fitting what a matcher says of its errors, against scikit-learn and on data made so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from alice3d.data.tables.landmarks import Landmarks
from alice3d.errors import UserError
from alice3d.evaluation.calibration import RIDGE, Measured, _matched, case_folds, fit_model, held_out, joined
from alice3d.evaluation.landmarks import reliability
from alice3d.matching.confidence import MOST_MM, transformed
from alice3d.matching.landmarks import SAME_ANATOMY

INPUTS = ("similarity", "cycle_mm", "beyond_mm")


def made(count: int = 900, seed: int = 0) -> Measured:
    """Errors that grow as similarity falls; a sixth of the points is gone, far beyond the key scan."""
    rng = np.random.default_rng(seed)
    whole = np.arange(count) % 3 > 0
    gone = np.where(~whole & (rng.random(count) < 0.5), rng.uniform(5, 60, count), -rng.uniform(0, 60, count))
    similarity = rng.uniform(0.3, 1, count)
    error = np.exp(rng.normal(3.6 - 2.2 * similarity, 0.4)) + np.maximum(gone, 0)
    features = {
        "similarity": similarity - 0.3 * (gone > 0),
        "cycle_mm": error * rng.uniform(0.2, 2, count),
        "beyond_mm": gone + rng.normal(0, 6, count),
    }
    query, key = rng.integers(12, size=count), np.arange(count) % 12
    query = np.where(query == key, (query + 1) % 12, query)
    names = np.array([f"c{n}" for n in range(12)])
    return Measured(features, error, gone, whole, names[query], names[key], np.ones(count, bool))


def test_the_fit_is_scikit_learns():
    rows = made()
    model = fit_model(rows, INPUTS, keep=0.9)
    oracle = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=1000)
    columns = np.stack([transformed(name, rows.features[name]) for name in INPUTS], axis=1)
    standard = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    shown = rows.outside_mm <= 0
    outside = oracle.fit(standard, ~shown).predict_proba(standard)[:, 1]
    np.testing.assert_allclose(model.outside_probability(rows.features), outside, atol=1e-4)
    for limit in (10.0, 20.0):
        oracle.fit(standard[shown], rows.error_mm[shown] > limit)
        far = outside + (1 - outside) * oracle.predict_proba(standard)[:, 1]
        np.testing.assert_allclose(model.probability(rows.features, limit), far, atol=2e-4)


def test_predictions_hold_on_other_points():
    model, other = fit_model(made(), INPUTS, keep=0.9), made(seed=1)
    far = model.probability(other.features)
    for row in reliability(far, other.error_mm, 5):
        assert abs(row["foretold"] - row["true"]) < 0.1
    assert sum(row["points"] for row in reliability(far, other.error_mm, 7)) == len(far)
    whole = other.chosen(other.whole)
    expected = model.expected_mm(whole.features).mean()
    assert expected == pytest.approx(np.minimum(whole.error_mm, MOST_MM).mean(), rel=0.15)
    good = other.whole & (other.error_mm <= 10)
    kept = far <= model.most_far
    assert kept[good].mean() == pytest.approx(0.9, abs=0.04)
    assert kept[other.outside_mm > 10].mean() < 0.05


def test_held_out_scores():
    found = held_out(made(), INPUTS, keep=0.9)
    assert found["auroc_10mm"] > 0.8
    assert found["gone_refused"] > 0.9
    assert found["good_kept"] == pytest.approx(0.9, abs=0.05)


def test_folds_share_no_case_and_predict_every_match_once():
    rows = made()
    predictions = np.zeros(len(rows.key), int)
    for fitted, predicted in case_folds(rows, 5):
        assert fitted.any()
        sides = [{*rows.query[part], *rows.key[part]} for part in (fitted, predicted)]
        assert not sides[0] & sides[1]
        predictions += predicted
    assert (predictions == 1).all()


def test_folds_share_no_patient():
    rows = made()
    cases = sorted({*rows.query, *rows.key})
    patients = {case: cases[n - n % 2] for n, case in enumerate(cases)}
    for fitted, predicted in case_folds(rows, 4, patients):
        sides = [{patients[case] for case in (*rows.query[part], *rows.key[part])} for part in (fitted, predicted)]
        assert not sides[0] & sides[1]
    alone = {case: case for case in cases}
    assert str(held_out(rows, INPUTS, keep=0.9)) == str(held_out(rows, INPUTS, keep=0.9, patients=alone))


def test_scores_of_cases_left_out_need_four_cases():
    rows = made()
    three = rows.chosen(np.isin(rows.key, ["c0", "c1", "c2"]) & np.isin(rows.query, ["c0", "c1", "c2"]))
    found = held_out(three, INPUTS, keep=0.9)
    assert np.isnan(found["auroc_10mm"])
    assert found["good_kept"] is None


def test_the_checks_hold_for_whole_and_for_cut_scans():
    rows = made()
    kept = held_out(rows, INPUTS, keep=0.9)
    for whole, name in ((True, "good_kept"), (False, "good_in_cut_scans_kept")):
        failing = replace(rows, checked=rows.whole != whole)
        found = held_out(failing, INPUTS, keep=0.9)
        assert kept[name] > 0.5
        assert found[name] == 0


@pytest.mark.parametrize("end", [0, 14])
def test_measured_matches_pass_the_checks_that_a_match_passes(matcher, query_input, key_input, points, end):
    """Between the scans as they are, and with a key that ends above the middle; half of the points lie in the air."""
    stop = np.array(key_input.grid.shape) - [0, 0, end]
    query, key = matcher.embed(query_input), matcher.embed(key_input.cropped(np.zeros(3, int), stop))
    key = replace(key, body=key.body & (torch.arange(key.body.shape[0]) < key.body.shape[0] // 2)[:, None, None])
    marks = {str(n): point for n, point in enumerate(points)}
    landmarks = Landmarks({"q": marks, "k": marks}, 0)
    scans = type("Scans", (), {"matcher": matcher, "__getitem__": lambda self, case: query})()
    shared = np.stack([marks[name] for name in sorted(marks)])
    for mode in ("direct", "robust"):
        found = matcher.match(query, key, shared, mode=mode)
        rows = _matched(scans, landmarks, "q", "k", key, not end, (mode,))[mode]
        np.testing.assert_array_equal(matcher.confidence.estimate(mode, rows.features).accepted, found.accepted)
        inside = key.in_body(found.point_mm)
        agree = found.agreement is None or found.agreement >= SAME_ANATOMY
        np.testing.assert_array_equal(rows.checked, inside & agree)
        assert not found.accepted[~inside].any()


def test_too_few_good_or_bad_matches_are_refused():
    rows = made()
    with pytest.raises(UserError, match="more than 20 mm off"):
        fit_model(rows.chosen((rows.error_mm < 20) | (rows.outside_mm > 0)), INPUTS, keep=0.9)
    with pytest.raises(UserError, match="more than 10 mm off"):
        fit_model(rows.chosen(rows.error_mm > 10), INPUTS, keep=0.9)
    with pytest.raises(UserError, match="30 of 30 points lie inside the cropped scans"):
        fit_model(
            rows.chosen(rows.outside_mm <= 0).chosen(np.arange((rows.outside_mm <= 0).sum()) < 30), INPUTS, keep=0.9
        )
    with pytest.raises(UserError, match="no match between uncropped scans"):
        fit_model(rows.chosen(~rows.whole), INPUTS, keep=0.9)


def test_rows_are_joined_in_order():
    rows = made(60)
    parts = [rows.chosen(np.arange(60) < 20), rows.chosen(np.arange(60) >= 20)]
    np.testing.assert_array_equal(joined(parts).error_mm, rows.error_mm)
    np.testing.assert_array_equal(joined(parts).features["cycle_mm"], rows.features["cycle_mm"])
