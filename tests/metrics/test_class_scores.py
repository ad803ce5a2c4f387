"""Scores of classifiers against scikit-learn, and their intervals over patients against a slow bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from alice3d.metrics.classification import (
    METRICS,
    auroc,
    case_weights,
    class_scores,
    confusion,
    overall_scores,
    summarise_classes,
)


def draw(seed: int, rows: int = 60, classes: int = 3, digits: int = 1) -> tuple:
    """Reference and probabilities, rounded so that ties occur; every class occurs."""
    rng = np.random.default_rng(seed)
    reference = np.r_[np.arange(classes), rng.integers(classes, size=rows - classes)]
    logits = rng.normal(size=(rows, classes)) + 1.2 * np.eye(classes)[reference]
    probability = np.exp(np.round(logits, digits))
    return reference, np.round(probability / probability.sum(axis=1, keepdims=True), 10)  # ties stay ties


def as_sklearn(reference, probability, weight=None) -> dict[str, float]:
    predicted = probability.argmax(axis=1)
    binary = probability.shape[1] == 2
    options = {} if binary else {"multi_class": "ovr", "average": "macro"}
    return {
        "auroc": metrics.roc_auc_score(
            reference, probability[:, 1] if binary else probability, sample_weight=weight, **options
        ),
        "accuracy": metrics.accuracy_score(reference, predicted, sample_weight=weight),
        "balanced_accuracy": metrics.balanced_accuracy_score(reference, predicted, sample_weight=weight),
        "f1": metrics.f1_score(reference, predicted, sample_weight=weight, average="macro", zero_division=0),
    }


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 3, 5]), st.sampled_from([0, 1, 6]))
def test_scores_equal_scikit_learn(seed, classes, digits):
    reference, probability = draw(seed, classes=classes, digits=digits)
    ours = overall_scores(reference, probability, np.ones((1, len(reference))))
    for metric, value in as_sklearn(reference, probability).items():
        assert ours[metric][0] == pytest.approx(value), metric


def test_weights_equal_scikit_learn_and_repeated_rows():
    reference, probability = draw(1)
    weight = np.random.default_rng(0).integers(1, 4, size=(3, len(reference))).astype(float)
    ours = overall_scores(reference, probability, weight)
    for row in range(3):
        theirs = as_sklearn(reference, probability, weight[row])
        times = weight[row].astype(int)
        repeated = as_sklearn(np.repeat(reference, times), np.repeat(probability, times, axis=0))
        for metric in METRICS:
            assert ours[metric][row] == pytest.approx(theirs[metric])
            assert ours[metric][row] == pytest.approx(repeated[metric])


def test_class_table_equals_scikit_learn():
    reference, probability = draw(4)
    predicted = probability.argmax(axis=1)
    ours = class_scores(reference, probability, np.ones((1, len(reference))))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(reference, predicted, zero_division=0)
    for name, theirs in (("precision", precision), ("recall", recall), ("f1", f1)):
        np.testing.assert_allclose(ours[name][0], theirs)
    counts = confusion(reference, predicted, np.ones((1, len(reference))), 3)[0]
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(reference, predicted))


def test_auroc_by_counting_pairs():
    positive = np.array([True, False, True, False, False])
    score = np.array([0.5, 0.5, 0.9, 0.1, 0.7])
    weight = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 3, 1], [0, 1, 0, 1, 1]], float)
    expected = []
    for w in weight[:2]:
        won = sum(
            w[i] * w[j] * ((score[i] > score[j]) + 0.5 * (score[i] == score[j]))
            for i in np.flatnonzero(positive)
            for j in np.flatnonzero(~positive)
        )
        expected.append(won / (w[positive].sum() * w[~positive].sum()))
    got = auroc(positive, score, weight)
    np.testing.assert_allclose(got[:2], expected)
    assert np.isnan(got[2])


def test_what_the_reference_lacks_has_no_score():
    reference, probability = np.array([0, 0, 1]), np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    ours = overall_scores(reference, probability, np.ones((1, 3)))
    assert ours["balanced_accuracy"][0] == pytest.approx(metrics.balanced_accuracy_score(reference, [0, 1, 1]))
    assert ours["f1"][0] == pytest.approx(metrics.f1_score(reference, [0, 1, 1], average="macro"))
    summary = summarise_classes(["a", "b", "c"], reference, probability, ("x", "y", "z"), resamples=50)
    assert summary["by_class"]["z"] == {"count": 0, "auroc": None, "precision": None, "recall": None, "f1": None}
    one = summarise_classes(["a", "b"], np.zeros(2, int), probability[:2], ("x", "y", "z"), resamples=50)
    assert one["auroc"] == {"mean": None, "low": None, "high": None}
    assert one["accuracy"]["mean"] == 0.5


def test_intervals_draw_patients_not_points():
    """Ten equal points a patient tell no more than one: the interval is that of a slow bootstrap over patients."""
    reference, probability = draw(3, rows=20, classes=2)
    cases = [f"p{number}" for number in range(20)]
    few = summarise_classes(cases, reference, probability, ("x", "y"), resamples=400, seed=1)
    many = summarise_classes(
        cases * 10, np.tile(reference, 10), np.tile(probability, (10, 1)), ("x", "y"), resamples=400, seed=1
    )
    assert (few["points"], many["points"], few["cases"], many["cases"]) == (20, 200, 20, 20)
    for metric in METRICS:
        for end in ("mean", "low", "high"):
            assert many[metric][end] == pytest.approx(few[metric][end])
    right = probability.argmax(axis=1) == reference
    rng = np.random.default_rng(5)
    slow = [right[rng.integers(20, size=20)].mean() for _ in range(4000)]
    low, high = np.quantile(slow, [0.025, 0.975])
    assert few["accuracy"]["low"] == pytest.approx(low, abs=0.06)
    assert few["accuracy"]["high"] == pytest.approx(high, abs=0.06)


def test_rows_of_a_case_are_drawn_together():
    weights = case_weights(["a", "b", "a", "c"], resamples=30, seed=0)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_cases_of_a_patient_are_resampled_together():
    rng = np.random.default_rng(0)
    reference = np.tile([0, 1], 20)
    probability = rng.dirichlet([1, 1], 40)
    cases, twins = [f"c{n:02}" for n in range(40)], {f"c{n:02}": f"c{n - n % 4:02}" for n in range(40)}
    as_patients = summarise_classes(cases, reference, probability, ("a", "b"), patients=twins)
    named = [twins[case] for case in cases]
    assert as_patients["accuracy"] == summarise_classes(named, reference, probability, ("a", "b"))["accuracy"]
    alone = summarise_classes(cases, reference, probability, ("a", "b"))
    assert alone == summarise_classes(cases, reference, probability, ("a", "b"), patients={c: c for c in cases})
    assert as_patients["cases"] == 40
