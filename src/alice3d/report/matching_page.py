"""Pictures and pages of what a matcher or a pairs table is worth."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import Any

import numpy as np


def draw_quality(folder: Path, report: dict[str, Any]) -> None:
    """Write quality.png: cycle errors of all points, and the share of accepted points of each scan pair."""
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
    left.set(xlabel="cycle error, there and back (mm)", ylabel="share of the points")
    shares = [row["accepted"] / max(row["rows"], 1) for row in report["by_pair"]]
    right.hist(shares, bins=20, range=(0, 1), color="#3b6ea5")
    right.set(xlabel="accepted share of a scan pair's points", ylabel="scan pairs")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    (folder / "quality.png").write_bytes(stream.getvalue())
