"""How far off `alice landmarks` is: its table against the true landmarks.

alice landmarks MATCHER STORE OUT --landmarks EXAMPLE.csv --examples STORE --split test
python benchmarks/matcher/score_landmarks.py OUT/landmarks.csv LANDMARKS.csv [--out RESULT.json]
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep


def points_of(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """(case, structure) to its row."""
    with path.open(newline="", encoding="utf-8") as stream:
        return {(row["case"], row["structure"]): row for row in csv.DictReader(stream)}


def millimetres(row: dict[str, str]) -> np.ndarray:
    """RAS mm of a row."""
    return np.array([float(row[name]) for name in ("x_mm", "y_mm", "z_mm")])


def summary(errors: list[float]) -> dict[str, Any]:
    """What is reported of some errors in mm."""
    array = np.array(errors)
    return {
        "points": len(array),
        "mean_mm": float(array.mean()),
        "median_mm": float(np.median(array)),
        "within_10mm": float((array <= 10).mean()),
    }


def main() -> None:
    """Compare, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("found", type=Path)
    parser.add_argument("true", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found, true = points_of(args.found), points_of(args.true)
    both = sorted(found.keys() & true.keys())
    errors = {name: float(np.linalg.norm(millimetres(found[name]) - millimetres(true[name]))) for name in both}
    accepted = [name for name in both if found[name]["accepted"].lower() in ("1", "true", "yes")]
    result = {
        "all": summary(list(errors.values())),
        "accepted": summary([errors[name] for name in accepted]),
        "by_structure": {
            structure: summary([errors[name] for name in both if name[1] == structure])
            for structure in sorted({name[1] for name in both})
        },
        "cases": len({name[0] for name in both}),
        **described(),
    }
    if args.out:
        keep(args.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
