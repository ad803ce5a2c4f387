"""Pictures and pages of what a matcher or a pairs table is worth."""

from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from alice3d import files
from alice3d.data.pairs import PairsTable


def write_quality(folder: Path, table: PairsTable, report: dict[str, Any]) -> None:
    """Write quality.json, scan_pairs.csv (a row a scan pair) and quality.png."""
    whole = {key: value for key, value in report.items() if key != "by_pair"}
    files.write_text(folder / "quality.json", json.dumps(whole, indent=1))
    text = io.StringIO()
    if report["by_pair"]:
        writer = csv.DictWriter(text, list(report["by_pair"][0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(report["by_pair"])
    files.write_text(folder / "scan_pairs.csv", text.getvalue())
    _draw(folder / "quality.png", report)


def _draw(path: Path, report: dict[str, Any]) -> None:
    """Cycle errors of all points, and the share of accepted points of each scan pair."""
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
    path.write_bytes(stream.getvalue())
