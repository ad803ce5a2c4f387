"""Landmarks of a labelled store: the centroid of each structure of each case, as alice evaluate-matcher reads them.

python benchmarks/matcher/centroids.py STORE OUT.csv
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from alice3d.data.store import Store


def main() -> None:
    """Write the CSV, RAS mm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    store = Store.open(args.store)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case", "structure", "x_mm", "y_mm", "z_mm"])
        for case in store.cases():
            if not case.labelled:
                continue
            label = store.label(case.id)[:, :, :]
            for value in case.structures:
                middle = case.grid.world(np.argwhere(label == value).mean(axis=0))
                writer.writerow([case.id, store.label_names[value], *(f"{mm:.3f}" for mm in middle)])


if __name__ == "__main__":
    main()
