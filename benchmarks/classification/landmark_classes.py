"""Class tables out of a landmark file: which structure a point is of, or on which side of the body it lies.

python benchmarks/classification/landmark_classes.py LANDMARKS.csv OUT.csv [--structures parotid_left,parotid_right]

Crops around exact centroids are separated by almost any model; `--jitter 20` moves each point by up to 20 mm along each
axis, drawn from a generator seeded with its case and structure, so that a table can be made again.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from pathlib import Path

import numpy as np

COLUMNS = ("case", "x_mm", "y_mm", "z_mm", "class")


def moved(row: dict[str, str], jitter_mm: float) -> dict[str, str]:
    """Coordinates of a row, moved by up to `jitter_mm` along each axis."""
    seed = hashlib.sha256(f"{row['case']} {row['structure']}".encode()).digest()[:8]
    shift = np.random.default_rng(int.from_bytes(seed, "big")).uniform(-jitter_mm, jitter_mm, 3)
    return {name: f"{float(row[name]) + by:.2f}" for name, by in zip(("x_mm", "y_mm", "z_mm"), shift, strict=True)}


def write_classes(landmarks: Path, out: Path, structures: set[str], jitter_mm: float) -> None:
    """Write a row for each landmark of the chosen structures; of all where none is chosen."""
    with landmarks.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if not structures or row["structure"] in structures]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows({**row, **moved(row, jitter_mm), "class": row["structure"]} for row in rows)
    print(f"{len(rows)} points of {len({row['structure'] for row in rows})} classes in {out}")


def main() -> None:
    """Read the call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("landmarks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--structures", default="", help="comma separated; left out, all")
    parser.add_argument("--jitter", type=float, default=0.0, help="mm")
    given = parser.parse_args()
    chosen = {name for name in given.structures.split(",") if name}
    write_classes(given.landmarks, given.out, chosen, given.jitter)


if __name__ == "__main__":
    main()
