"""Output of a comparison: compare.csv, compare.md and a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

TITLES = {
    "linear_dice": "Dice of a linear head on frozen features",
    "knn_accuracy": "k-NN accuracy",
    "landmark_mean_mm": "Landmark error, mean mm",
    "landmark_median_mm": "Landmark error, median mm",
    "dice": "Dice after fine-tuning",
}
COLUMNS = ("method", "labels", "seed", "measure", "value")
Key = tuple[str, int | None]


def table_csv(rows: Sequence[dict[str, Any]]) -> str:
    """compare.csv: the table, one row per arm, number of labels, seed and measure."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        shown = {**row, "labels": "" if row["labels"] is None else row["labels"], "value": f"{row['value']:.6g}"}
        writer.writerow(shown)
    return text.getvalue()


def grouped(rows: Sequence[dict[str, Any]]) -> dict[Key, dict[str, list[float]]]:
    """Measure and labels to arm to the values of its seeds, in the order of first appearance."""
    found: dict[Key, dict[str, list[float]]] = {}
    for row in rows:
        found.setdefault((row["measure"], row["labels"]), {}).setdefault(row["method"], []).append(row["value"])
    return found


def title_of(key: Key) -> str:
    """Title of a measure, with its number of labels."""
    measure, labels = key
    return TITLES.get(measure, measure) + (f", {labels} labels" if labels is not None else "")


def page(
    rows: Sequence[dict[str, Any]],
    tests: Sequence[dict[str, Any]],
    *,
    reference: str,
    about: Sequence[str],
    how_tested: str,
) -> str:
    """compare.md: one table per measure, each arm with its mean, its seeds and its difference from the reference.

    Args:
        rows, tests: of `comparison.table`.
        reference: the arm that others are compared with.
        about: lines on what was compared.
        how_tested: description of the tests.
    """
    by_test = {(test["measure"], test["labels"], test["method"]): test for test in tests}
    lines = ["# Comparison", "", *about, ""]
    for key, arms in grouped(rows).items():
        digits = 1 if key[0].endswith("_mm") else 3
        lines += [f"## {title_of(key)}", ""]
        lines += [f"| Arm | mean | seeds | against {reference} (95 %) | p (Holm) | p, Wilcoxon |"]
        lines += ["|---|---|---|---|---|---|"]
        for arm, values in arms.items():
            shown = ", ".join(f"{value:.{digits}f}" for value in values)
            cells = [arm, f"{np.mean(values):.{digits}f}", shown]
            test = by_test.get((*key, arm))
            if test is None or np.isnan(test["low"]):  # the reference itself, or one case and one seed
                cells += ["", "", ""]
            else:
                low, high = (f"{test[end]:+.{digits}f}" for end in ("low", "high"))
                cells.append(f"{test['difference']:+.{digits}f} ({low} to {high})")
                cells.append(f"{test['p']:.2g} ({test['p_holm']:.2g})")
                cells.append(f"{test['p_wilcoxon']:.2g}")
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join([*lines, f"Tests: {how_tested}.", ""])


def draw_comparison(rows: Sequence[dict[str, Any]], reference: str) -> bytes:
    """PNG: one panel per measure, one line per arm, one dot per seed, a bar for the mean, a line at the reference's
    mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(key, arms) for key, arms in grouped(rows).items() if key[0] != "landmark_median_mm"]
    names = list(dict.fromkeys(row["method"] for row in rows))
    figure = Figure(figsize=(2.2 + 3.1 * max(len(panels), 1), 1.4 + 0.3 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (key, arms) in zip(
        figure.subplots(1, max(len(panels), 1), squeeze=False, sharey=True)[0], panels, strict=False
    ):
        for place, name in enumerate(names):
            values = arms.get(name, [])
            if not values:
                continue
            axes.plot(values, [place] * len(values), "o", color="#3b6ea5", alpha=0.55, markersize=4)
            axes.plot([np.mean(values)] * 2, [place - 0.3, place + 0.3], color="#1f3d5c", linewidth=2)
        if reference in arms:
            axes.axvline(float(np.mean(arms[reference])), color="#c46a2b", linewidth=1, linestyle="--")
        better = "left" if key[0].endswith("_mm") else "right"
        axes.set_title(title_of(key), fontsize=8)
        axes.set_xlabel(f"better: {better}", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="x", labelsize=7)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    return stream.getvalue()
