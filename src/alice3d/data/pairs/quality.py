"""Quality of a pairs table: accepted fraction, cycle errors, one line per scan pair."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from alice3d import files
from alice3d.data.pairs import PairsTable

EDGES_MM = (0, 2, 4, 6, 8, 10, 15, 20, 30, 50, 100, float("inf"))
"""Edges of the histogram of cycle errors."""


def quality(table: PairsTable) -> dict[str, Any]:
    """Counts, medians and the histogram of cycle errors; `by_pair` has one row per scan pair."""
    by_pair: list[dict[str, Any]] = []
    cycles, accepted_cycles = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for query, key in table.scan_pairs(usable=False):
        rows = table.rows(query, key)
        kept = rows.accepted
        cycles.append(rows.cycle_mm)
        accepted_cycles.append(rows.cycle_mm[kept])
        by_pair.append(
            {
                "query": query,
                "key": key,
                "rows": len(rows),
                "accepted": int(kept.sum()),
                "usable": rows.usable,
                "cycle_mm_median": _median(rows.cycle_mm),
                "fit_mm_median": _median(rows.fit_mm),
                "similarity_median": _median(rows.similarity),
            }
        )
    every, kept_every = np.concatenate(cycles), np.concatenate(accepted_cycles)
    counts, _ = np.histogram(every, np.array(EDGES_MM))
    return {
        "scan_pairs": len(by_pair),
        "usable": sum(bool(row["usable"]) for row in by_pair),
        "rows": len(every),
        "accepted": len(kept_every),
        "cycle_mm_median": _median(every),
        "accepted_cycle_mm_median": _median(kept_every),
        "cycle_mm_histogram": {"edges": [edge for edge in EDGES_MM if np.isfinite(edge)], "counts": counts.tolist()},
        "by_pair": by_pair,
    }


def _median(values: Any) -> float | None:
    """None instead of NaN and infinity, which JSON lacks."""
    middle = float(np.median(values)) if len(values) else float("nan")
    return middle if np.isfinite(middle) else None


def write_quality(folder: Path, report: dict[str, Any]) -> None:
    """Write quality.json and scan_pairs.csv, one row per scan pair."""
    whole = {key: value for key, value in report.items() if key != "by_pair"}
    files.write_text(folder / "quality.json", json.dumps(whole, indent=1))
    text = io.StringIO()
    if report["by_pair"]:
        writer = csv.DictWriter(text, list(report["by_pair"][0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(report["by_pair"])
    files.write_text(folder / "scan_pairs.csv", text.getvalue())
