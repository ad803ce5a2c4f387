"""Pictures of the quality of a matcher or a pairs table."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np

from alice3d.version import PROGRAM


def draw_quality(folder: Path, report: dict[str, Any]) -> None:
    """Write quality.png: cycle errors of all points, and the fraction of accepted points of each scan pair."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    counts = np.array(report["cycle_mm_histogram"]["counts"], float)
    edges = report["cycle_mm_histogram"]["edges"]
    names = [f"{a:g}–{b:g}" for a, b in itertools.pairwise(edges)] + [f"> {edges[-1]:g}"]
    left.bar(range(len(counts)), counts / max(counts.sum(), 1), color="#3b6ea5")
    left.set_xticks(range(len(counts)), names, rotation=60, fontsize=7)
    left.set(xlabel="cycle error (mm)", ylabel="fraction of the points")
    shares = [row["accepted"] / max(row["rows"], 1) for row in report["by_pair"]]
    right.hist(shares, bins=20, range=(0, 1), color="#3b6ea5")
    right.set(xlabel="accepted fraction of a scan pair's points", ylabel="scan pairs")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": PROGRAM})
    (folder / "quality.png").write_bytes(stream.getvalue())


def draw_reliability(trust: dict[str, Any]) -> bytes:
    """PNG: reliability diagram, observed frequency of errors above 10 mm against the predicted probability.

    Args:
        trust: from `evaluation.landmarks.confidence_scores`, of a calibrated matcher.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    foretold, true = ([row[name] for row in trust["reliability"]] for name in ("foretold", "true"))
    axes.plot(foretold, true, "o-", color="#3b6ea5")
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="predicted probability of an error above 10 mm",
        ylabel="observed fraction of errors above 10 mm",
        title=f"AUROC {trust['foretold_auroc_10mm']:.2f} (> 10 mm), {trust['foretold_auroc_20mm']:.2f} (> 20 mm)"
        if trust["foretold_auroc_10mm"] is not None and trust["foretold_auroc_20mm"] is not None
        else "",
    )
    axes.title.set_fontsize(9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": PROGRAM})
    return stream.getvalue()
