"""Line and dot charts as SVG that follows the page's colours: loss curves of a log, scores of models side by side."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

INK = "#010203"
"""Stands for the text colour of the page: becomes `currentColor` in the SVG."""
SERIES = ("#8a8f98", "#2f7fd1", "#d55e00", "#009e73", "#b04a9d", "#a07a00")
"""Readable on white and on black; grey first, for the reference."""
NOT_A_CURVE = frozenset(
    {"step", "learning_rate", "gradient_norm", "data_wait_s", "step_s", "samples_per_s", "monitor_s"}
)
COLUMNS = 3


@dataclass(frozen=True)
class Score:
    """A mean with its 95 % interval; `low` and `high` are None where there is no interval."""

    mean: float
    low: float | None = None
    high: float | None = None


def is_point(value: Any) -> bool:
    """Whether a value of the log can be drawn."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def curve_names(log: Sequence[Mapping[str, Any]]) -> list[str]:
    """Loss and its terms in the order of the log: finite values that are not of the training loop itself."""
    names: dict[str, None] = {}
    for entry in log:
        for key, value in entry.items():
            if key not in NOT_A_CURVE and is_point(value):
                names[key] = None
    return sorted(names, key=lambda name: name != "loss")


def running_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean over `width` values around each, fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    start, stop = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(values))
    mean: NDArray[np.float64] = (total[stop] - total[start]) / (stop - start)
    return mean


def loss_curves(
    log: Sequence[Mapping[str, Any]],
    *,
    labels: Mapping[str, str] | None = None,
    expected: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """One small chart for the loss and each of its parts, over the steps: every step faint, a running mean bold.

    Args:
        log: lines of `log.jsonl`.
        labels: key of the log to the title of its chart.
        expected: key of the log to steps and values of a successful run, drawn in grey behind.

    Raises:
        ValueError: there is nothing to draw.
    """
    names = curve_names(log)
    if not names:
        raise ValueError("the log holds no loss")
    columns = 4 if len(names) == 4 else min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(8.2, 1.75 * rows + 0.15)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for name, each in zip(names, axes, strict=False):
        points = [(entry["step"], float(entry[name])) for entry in log if is_point(entry.get(name))]
        steps, values = np.array(points, np.float64).T
        behind = np.array((expected or {}).get(name, []), np.float64).reshape(-1, 2)
        each.plot(behind[:, 0], behind[:, 1], color=SERIES[0], linewidth=3.0, alpha=0.5)
        each.plot(steps, values, color=SERIES[1], linewidth=0.6, alpha=0.35)
        each.plot(steps, running_mean(values, max(len(values) // 20, 1)), color=SERIES[1], linewidth=1.6)
        plain(each)
        each.set_title((labels or {}).get(name, name.replace("_", " ")), fontsize=9, color=INK, loc="left")
        spread = np.percentile(values, (1, 99)) if len(values) > 20 else (values.min(), values.max())
        spread = (min(spread[0], *behind[:, 1]), max(spread[1], *behind[:, 1])) if len(behind) else spread
        margin = 0.08 * (spread[1] - spread[0]) or 0.5
        each.set_ylim(spread[0] - margin, spread[1] + margin)
    for each in axes[len(names) :]:
        each.set_visible(False)
    return figure


def score_chart(scores: Mapping[str, Mapping[str, Score]], *, axis: str = "Dice") -> Figure:
    """Comparison of models: one row per group (a structure, a number of labels), one dot per model, bars for intervals.

    Args:
        scores: group to model to score between 0 and 1; a model that lacks a group has no dot there.
        axis: what is measured.
    """
    groups = list(scores)
    models = list(dict.fromkeys(name for group in scores.values() for name in group))
    figure = new_figure(7.4, 0.13 * len(groups) * max(len(models), 2) + 0.9)
    axes = figure.subplots()
    step = 0.7 / max(len(models), 1)
    for order, model in enumerate(models):
        colour = SERIES[order % len(SERIES)]
        for row, group in enumerate(groups):
            score = scores[group].get(model)
            if score is None:
                continue
            y = row + (order - (len(models) - 1) / 2) * step
            if score.low is not None and score.high is not None:
                axes.plot([score.low, score.high], [y, y], color=colour, linewidth=2, alpha=0.5)
            axes.plot([score.mean], [y], "o", color=colour, markersize=5, label=model if row == 0 else None)
    plain(axes)
    axes.set(yticks=range(len(groups)), yticklabels=groups, ylim=(len(groups) - 0.4, -0.6), xlim=(-0.01, 1.01))
    axes.set_xlabel(axis, color=INK, fontsize=8)
    figure.legend(*_legend(models), loc="outside upper left", ncols=4, fontsize=8, frameon=False, labelcolor=INK)
    return figure


def _legend(models: Sequence[str]) -> tuple[list[Any], list[str]]:
    colours = [SERIES[order % len(SERIES)] for order in range(len(models))]
    return [Line2D([], [], color=c, marker="o", linestyle="", markersize=5) for c in colours], list(models)


def new_figure(width: float, height: float) -> Figure:
    """A transparent figure of this size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """Two thin axes, a faint grid, the page's text colour."""
    axes.patch.set_alpha(0)
    axes.grid(color=INK, alpha=0.12, linewidth=0.6)
    axes.tick_params(colors=INK, labelsize=7, length=2, width=0.6)
    for name, spine in axes.spines.items():
        spine.set(color=INK, linewidth=0.6, visible=name in ("left", "bottom"))


def svg_of(figure: Figure, *, name: str, alt: str) -> str:
    """The figure as an inline `<svg>` element in the page's text colour.

    Args:
        figure: drawn with `INK`.
        name: makes the ids inside unique on the page.
        alt: alternative text of the picture.
    """
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    ids = f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}-"
    text = re.sub(r'\bid="', f'id="{ids}', text)
    text = re.sub(r'(href="|url\()#', rf"\g<1>#{ids}", text)
    width, height = (value * 72 for value in figure.get_size_inches())
    opening = (
        f'<svg role="img" aria-label="{escape(alt)}" xmlns="http://www.w3.org/2000/svg" '
        f'xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width:g} {height:g}">'
    )
    return opening + text[text.index(">") + 1 :]


NAME = "curves.json"


POINTS = 60


ABOUT = ("steps", "batch", "learning_rate", "crop", "matched_share")
"""Settings of the run that a file of curves repeats."""


@dataclass(frozen=True)
class Expected:
    """Curves of a shipped run.

    Attributes:
        title: which run, for a caption.
        steps: of it.
        curves: key of the log to steps and running means.
    """

    title: str
    steps: int
    curves: Mapping[str, Sequence[tuple[float, float]]]

    def stretched(self, steps: int) -> dict[str, list[tuple[float, float]]]:
        """The curves scaled to a run of another length: schedules, and so the losses, follow the fraction of the
        run."""
        return {
            name: [(step * steps / self.steps, value) for step, value in points] for name, points in self.curves.items()
        }


def thinned(log: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], title: str) -> dict[str, Any]:
    """The content of a file of curves.

    Args:
        log: of the run.
        settings: its `config.yaml`.
        title: which run, in a few words.
    """
    curves = {}
    for name in curve_names(log):
        steps, values = np.array(
            [(entry["step"], entry[name]) for entry in log if is_point(entry.get(name))], np.float64
        ).T
        smooth = running_mean(values, max(len(values) // 20, 1))
        chosen = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
        curves[name] = [[int(steps[i]), float(f"{smooth[i]:.4g}")] for i in chosen]
    about = {key: settings[key] for key in ABOUT if key in settings}
    return {"title": title, "kind": _kind(settings), "settings": about, "curves": curves}


def expected_of(settings: Mapping[str, Any]) -> Expected | None:
    """The shipped run to compare with a run of these settings; None where none is similar.

    Similar are runs of the same method on the same kind of network, both from weights or both from scratch.
    """
    for folder in (resources.files("alice3d.weights") / "shipped").iterdir():
        file = folder.joinpath(NAME)
        if not file.is_file():
            continue
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["kind"] == _kind(settings):
            curves = {name: [(x, y) for x, y in points] for name, points in content["curves"].items()}
            return Expected(content["title"], content["settings"]["steps"], curves)
    return None


def _kind(settings: Mapping[str, Any]) -> dict[str, Any]:
    method = settings.get("method", "sam")
    return {"method": method, "backbone": settings["backbone"], "from_weights": settings["init"] is not None}
