"""Classifiers of points in head-and-neck CT: five structures, and left against right parotid gland.

python benchmarks/classification/run.py STORE LANDMARKS.csv OUT

Each point lies up to 20 mm along each axis from the structure's centroid (landmark_classes.py), and is seen through a
crop of 16 voxels (64 mm at 4 mm). What is trained on `train` and was chosen on `val` is scored once on `test`. The same
call goes on where it stopped. OUT/results.csv has a row a model, OUT/summary.json the means over the draws.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep

from alice3d.cli import main as alice

JITTER_MM = 20
SEEDS = (0, 1, 2)
TABLES = {"structures": [], "sides": ["--structures", "parotid_left,parotid_right"]}
LABELS = {"structures": (2, 5, 20), "sides": (1,)}
FROZEN_ONLY = 20
"""Training with this many labelled scans is left out: two minutes a model and draw."""
ENCODER = ["--encoder", "headneck-ct-alice"]
TUNING = ["--steps", "100", "--batch", "5"]
MODELS = {
    "alice frozen": [*ENCODER, "--head", "linear", "--linear-views", "8"],
    "untrained frozen": ["--head", "linear", "--linear-views", "8"],
    "alice tuned": [*ENCODER, "--head", "both", "--linear-views", "8", "--learning-rate", "3e-4", *TUNING],
    "scratch": ["--learning-rate", "1e-3", *TUNING],
}
MIRRORED = ("sides", "scratch mirrored", 1, [*MODELS["scratch"], "--mirror"])
METRICS = ("auroc", "accuracy", "balanced_accuracy", "f1")


def run(words: list[str]) -> None:
    """One command, or the end of everything."""
    if alice(words):
        raise SystemExit(f"failed: alice {' '.join(words)}")


def score(store: str, out: Path, table: str, name: str, labels: int, seed: int, options: list[str]) -> dict:
    """Train and score one model; its row."""
    folder = out / f"{table}-{name.replace(' ', '-')}-{labels}-{seed}"
    common = ["--task", "classification", "--classes", str(out / f"{table}.csv"), "--crop", "16", "--shift", "0.2"]
    more = ["--labels", str(labels), "--seed", str(seed), "--threads", "1"]
    run(["finetune", store, str(folder), *common, *options, *more])
    run(["evaluate", str(folder), store, "--split", "test", "--threads", "1"])
    result = json.loads((folder / "evaluation-test" / "metrics.json").read_text(encoding="utf-8"))
    row = {"table": table, "model": name, "labels": labels, "seed": seed, "points": result["points"]}
    scores = {f"{metric}{end}": result[metric][key] for metric in METRICS
              for end, key in (("", "mean"), ("_low", "low"), ("_high", "high"))}  # fmt: skip
    return row | scores


def main() -> None:
    """All models, then the table and its means."""
    store, landmarks, folder = sys.argv[1:]
    out = Path(folder)
    rows = []
    for table, chosen in TABLES.items():
        from landmark_classes import write_classes

        write_classes(Path(landmarks), out / f"{table}.csv", set(chosen[-1].split(",")) if chosen else set(), JITTER_MM)
        for name, options in MODELS.items():
            for labels in LABELS[table]:
                if labels == FROZEN_ONLY and "frozen" not in name:
                    continue
                rows += [score(store, out, table, name, labels, seed, options) for seed in SEEDS]
    table, name, labels, options = MIRRORED
    rows.append(score(store, out, table, name, labels, SEEDS[0], options))
    with (out / "results.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    means = {}
    for row in rows:
        group = means.setdefault(f"{row['table']}, {row['model']}, {row['labels']} labelled scans", [])
        group.append(row)
    summary = {
        name: {
            metric: [round(call(row[metric] for row in group), 3) for call in (mean, min, max)] for metric in METRICS
        }
        for name, group in means.items()
    }
    keep(out / "summary.json", {"mean, least and most of three draws": summary, **described()})


if __name__ == "__main__":
    main()
