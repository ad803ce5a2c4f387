"""Curves of a run: what is drawn, and how it is smoothed."""

import pytest

from alice3d.report.curves import curve_names, loss_curves, running_mean, svg_of

LOG = [{"step": i, "loss": 3.0 / (i + 1), "class": 1.0, "learning_rate": 0.1, "step_s": 0.2} for i in range(50)]


def test_curves_are_the_losses_and_nothing_of_the_loop():
    assert curve_names(LOG) == ["loss", "class"]
    figure = loss_curves(LOG, labels={"class": "λ_cls"})
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()] == ["loss", "λ_cls"]
    with pytest.raises(ValueError, match="no loss"):
        loss_curves([{"step": 1}])


def test_running_mean_against_the_plain_loop():
    import numpy as np

    values = np.random.default_rng(0).normal(size=30)
    slow = [values[max(i - 2, 0) : i + 3].mean() for i in range(30)]
    assert running_mean(values, 5) == pytest.approx(slow)


def test_one_step_can_be_drawn():
    assert "<svg" in svg_of(loss_curves(LOG[:1]), name="x", alt="y")
