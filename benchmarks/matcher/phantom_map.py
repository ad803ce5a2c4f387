"""Where in the body a matcher errs: generated patients, in whom the true place of every voxel is known.

alice demo --out DEMO
python benchmarks/matcher/phantom_map.py --matcher DEMO/matcher --out RESULT.json --picture RESULT.png

Patients that the demo did not draw are matched in pairs at body voxels drawn anywhere; errors are gathered in the space
of the average torso, and by the structure that the point lies in. Points whose true place the key scan does not show
are counted apart.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep

from alice3d.data.preprocessing.preprocess import prepare_array
from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.device import resolve_device
from alice3d.evaluation.landmarks import same_place_in_box
from alice3d.io.volume import Volume
from alice3d.matching import EmbeddedScan, Matcher
from alice3d.matching.matcher import MODES
from alice3d.phantom.patient import LABEL_NAMES, Phantom, correspond, make_phantom
from alice3d.phantom.template import template

FIRST_SEED = 10_000
"""The demo's patients have (seed, number) as seed; these are others."""
BIN_MM = 10.0
"""Side of the bins of the map."""
SLAB_MM = 30.0
"""The planes of the picture show the mean over so much."""
MOST_MM = 20.0
"""Errors at the end of the picture's colours."""


def embedded(matcher: Matcher, patient: Phantom) -> EmbeddedScan:
    """A patient's scan, with the usual preprocessing."""
    volume = Volume(patient.image, patient.grid.affine)
    prepared = prepare_array(volume, spacing_mm=matcher.spacing_mm, modality=matcher.rule.modality, name=patient.name)
    return matcher.embed(ScanInput.of_prepared(prepared, matcher.rule))


def body_voxels(patient: Phantom, count: int, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """`count` places (n, 3) RAS mm anywhere in the body, and the label value of each."""
    inside = np.argwhere(patient.labels > 0)
    chosen = inside[rng.choice(len(inside), count, replace=False)]
    return patient.grid.world(chosen), patient.labels[tuple(chosen.T)]


def measure(matcher: Matcher, patients: list[Phantom], points: int) -> dict[str, NDArray[Any]]:
    """A row a point: where it lies in the average torso, its label, whether the key shows it, and its errors."""
    scans = [embedded(matcher, patient) for patient in patients]
    rng = np.random.default_rng(0)
    parts: dict[str, list[NDArray[Any]]] = {}
    for a, query in enumerate(patients):
        for b, key in enumerate(patients):
            if a == b:
                continue
            here, label = body_voxels(query, points, rng)
            true = correspond(query, key, here)
            row = {"place_mm": query.to_template(here), "label": label, "shown": key.grid.contains(true)}
            row["box"] = np.linalg.norm(same_place_in_box(scans[a], scans[b], here) - true, axis=1)
            for mode in MODES:
                found = matcher.match(scans[a], scans[b], here, mode=mode)
                row[mode] = np.linalg.norm(found.point_mm - true, axis=1)
                row[f"{mode}_accepted"] = found.accepted
            for name, values in row.items():
                parts.setdefault(name, []).append(values)
            print(a, b, {mode: round(float(row[mode][row["shown"]].mean()), 1) for mode in MODES}, flush=True)
    return {name: np.concatenate(values) for name, values in parts.items()}


def summary(rows: dict[str, NDArray[Any]], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Errors of the chosen points, by way."""
    table: dict[str, Any] = {"points": int(chosen.sum())}
    for way in ("box", *MODES):
        error = rows[way][chosen]
        table[way] = {
            "mean_mm": round(float(error.mean()), 2),
            "median_mm": round(float(np.median(error)), 2),
            "within_10mm": round(float((error <= 10).mean()), 3),
        }
    return table


def mean_map(rows: dict[str, NDArray[Any]], way: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of errors and counts in bins of the average torso."""
    grid = template().grid
    low = grid.world(np.zeros(3))
    high = grid.world(np.array(grid.shape) - 1)
    edges = [np.arange(a, b + BIN_MM, BIN_MM) for a, b in zip(low, high, strict=True)]
    shown = rows["shown"]
    place, error = rows["place_mm"][shown], rows[way][shown]
    total = np.histogramdd(place, edges, weights=error)[0]
    return total, np.histogramdd(place, edges)[0]


def draw(rows: dict[str, NDArray[Any]], path: Path) -> None:
    """Three planes of the mean error, direct above robust, over the outline of the average torso."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    grid, label = template().grid, template().label
    low = grid.world(np.zeros(3))
    high = grid.world(np.array(grid.shape) - 1)
    figure = Figure(figsize=(11, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    planes = (("sagittal", 0, "y", "z"), ("coronal", 1, "x", "z"), ("axial", 2, "x", "y"))
    for line, way in zip(axes, MODES, strict=True):
        total, count = (ndimage.gaussian_filter(values, 0.7) for values in mean_map(rows, way))
        for panel, (name, axis, across, up) in zip(line, planes, strict=True):
            middle, half = count.shape[axis] // 2, int(SLAB_MM / BIN_MM / 2)
            slab = [slice(None)] * 3
            slab[axis] = slice(middle - half, middle + half + 1)
            errors, seen = total[tuple(slab)].sum(axis=axis), count[tuple(slab)].sum(axis=axis)
            shown = np.where(seen > 2, errors / np.maximum(seen, 1e-6), np.nan)
            others = [n for n in range(3) if n != axis]
            extent = (low[others[0]], high[others[0]], low[others[1]], high[others[1]])
            drawn = panel.imshow(shown.T, origin="lower", extent=extent, vmin=0, vmax=MOST_MM, cmap="viridis")
            cut = np.take(label, label.shape[axis] // 2, axis=axis)
            for value in np.unique(cut[cut > 0]):
                panel.contour(
                    (cut == value).T, levels=[0.5], origin="lower", extent=extent, colors="white", linewidths=0.5
                )
            panel.set(title=f"{way}, {name}", xlabel=f"{across} (mm)", ylabel=f"{up} (mm)", aspect="equal")
    figure.colorbar(drawn, ax=axes, label="mean distance from the true place (mm)", shrink=0.7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def main() -> None:
    """Measure, draw and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matcher", required=True)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--points", type=int, default=4000, help="a pair of patients")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    started = time.process_time()
    matcher = Matcher.load(args.matcher, device=resolve_device("cpu", 1))
    patients = [make_phantom(np.random.default_rng((FIRST_SEED, n)), name=f"patient_{n}") for n in range(args.patients)]
    rows = measure(matcher, patients, args.points)
    gone = ~rows["shown"]
    result = {
        "patients": args.patients,
        "scan_pairs": args.patients * (args.patients - 1),
        **summary(rows, rows["shown"]),
        "by_structure": {
            LABEL_NAMES[value]: summary(rows, rows["shown"] & (rows["label"] == value))
            for value in sorted(set(rows["label"].tolist()))
        },
        "outside_the_key": {
            "points": int(gone.sum()),
            **{f"{mode}_refused": round(float((~rows[f"{mode}_accepted"])[gone].mean()), 3) for mode in MODES},
        },
        "accepted": {mode: round(float(rows[f"{mode}_accepted"][~gone].mean()), 3) for mode in MODES},
        "spacing_mm": list(matcher.spacing_mm),
        "steps": matcher.card.get("steps"),
        "matcher": matcher.checksum,
        "cpu_seconds": round(time.process_time() - started, 1),
        **described(),
    }
    keep(args.out, result)
    if args.picture:
        draw(rows, args.picture)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
