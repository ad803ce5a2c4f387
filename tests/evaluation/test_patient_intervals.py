"""Intervals of a matcher's scores are over patients: thousands of points of a few patients do not narrow them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alice3d.evaluation.landmarks import PointErrors, auroc_interval, patient_intervals, summarise
from alice3d.metrics.intervals import pair_interval

PATIENTS = 8


def errors(points: int, untrained: bool = True) -> PointErrors:
    """Errors of all ordered pairs, each point of a pair with the same error; patients differ."""
    rng = np.random.default_rng(0)
    one, two = np.nonzero(~np.eye(PATIENTS, dtype=bool))
    patient = rng.gamma(4, 1, PATIENTS)
    error = np.repeat(patient[one] + patient[two] + rng.gamma(1, 1, len(one)), points)
    query, key = (np.repeat(np.array([f"p{n}" for n in places]), points) for places in (one, two))
    count, noise = len(error), np.repeat(rng.normal(0, 2, len(one)), points)
    return PointErrors(
        structure=np.tile([f"s{n}" for n in range(points)], len(one)),
        query=query,
        key=key,
        error_mm=error,
        box_mm=3 * error,
        untrained_mm=5 * error if untrained else np.full(count, np.nan),
        cycle_mm=error + noise,
        similarity=-error,
        certainty=np.ones(count),
        far_10mm=1 / (1 + np.exp(10 - error - noise)),
        far_20mm=np.zeros(count),
        expected_mm=error,
        accepted=error < 12,
    )


def test_more_points_of_the_same_patients_do_not_narrow_them():
    few, many = patient_intervals(errors(1)), patient_intervals(errors(20))
    assert set(few) == {
        "mean_mm", "median_mm", "within_5mm", "within_10mm", "accepted_share", "accepted_within_10mm",
        "cycle_auroc_10mm", "foretold_auroc_10mm", "baseline_box_mean_mm", "baseline_box_median_mm",
        "baseline_untrained_mean_mm", "baseline_untrained_median_mm",
    }  # fmt: skip
    for name, interval in few.items():
        assert many[name] == pytest.approx(interval, abs=0.02), name
        assert interval["low"] < interval["high"], name


def test_they_hold_the_scores_that_they_are_of():
    given = errors(3)
    found = summarise(given, skipped_cases=0)
    for name, interval in found["intervals"].items():
        assert interval["low"] <= (found["trust"] if "foretold" in name else found)[name] <= interval["high"], name
    mean = pair_interval(given.error_mm.tolist(), given.query.tolist(), given.key.tolist())
    assert found["intervals"]["mean_mm"] == {"low": mean["low"], "high": mean["high"]}
    share = found["intervals"]["within_10mm"]
    assert 0 <= share["low"] < share["high"] <= 1


def test_what_was_not_measured_has_none():
    found = patient_intervals(errors(1, untrained=False))
    nothing = {"low": None, "high": None}
    assert (found["baseline_untrained_mean_mm"], found["baseline_untrained_median_mm"]) == (nothing, nothing)


def test_auroc_interval_weighs_a_pair_by_both_its_patients():
    """Against a plain repetition of the rows of each resample."""
    given = errors(1)
    positive = given.error_mm > 10
    ours = auroc_interval(given, positive, given.cycle_mm, resamples=40, seed=3)
    rng, names, areas = np.random.default_rng(3), [f"p{n}" for n in range(PATIENTS)], []
    for times in rng.multinomial(PATIENTS, np.full(PATIENTS, 1 / PATIENTS), size=40):
        count = dict(zip(names, times, strict=True))
        rows = [n for n in range(len(positive)) for _ in range(count[given.query[n]] * count[given.key[n]])]
        high, low = given.cycle_mm[rows][positive[rows]], given.cycle_mm[rows][~positive[rows]]
        if len(high) and len(low):
            areas.append(np.mean((high[:, None] > low) + 0.5 * (high[:, None] == low)))
    assert min(areas) <= ours["low"] <= np.quantile(areas, 0.1)
    assert np.quantile(areas, 0.9) <= ours["high"] <= max(areas)


def test_cases_of_one_patient_leave_together():
    """Each case twice under two names, its scans of one patient: the interval does not narrow."""
    once = errors(2)
    again = replace(once, query=np.char.add(once.query, "x"), key=np.char.add(once.key, "x"))
    both = PointErrors(
        **{name: np.concatenate([getattr(once, name), getattr(again, name)]) for name in PointErrors.__annotations__}
    )
    patients = {f"p{n}x": f"p{n}" for n in range(PATIENTS)}
    found = patient_intervals(both, patients=patients)
    for name, interval in patient_intervals(once).items():
        assert found[name] == pytest.approx(interval, abs=1e-9), name
    mean = patient_intervals(both)["mean_mm"]
    assert mean["high"] - mean["low"] < 0.8 * np.ptp(list(patient_intervals(once)["mean_mm"].values()))
