"""Does each objective learn? Its loss under a fixed schedule, and the linear probe before and after.

    python benchmarks/rivals/learn.py OUT [--only NAME,NAME] [--backbone resunet] [--steps 200]

Generated patients at 8 mm; a linear head on the frozen encoder, fitted on 5 labelled cases and scored on the test part.
Every objective starts from the same weights of the backbone (same seed), whose score stands as `before`. OUT/ROWS is
one CSV a backbone with a row an objective; a row that is there is not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described

from alice3d.cli import main as alice
from alice3d.engine.log import read_log
from alice3d.methods.base import fitting_methods

PATIENTS = {"pretrain": 24, "train": 5, "test": 8}
COLUMNS = (
    *("objective", "backbone", "seconds_a_step", "loss_start", "loss_end", "probe_before", "probe_after"),
    *("seed", "steps", "commit", "ended"),
)
FEW = 20
"""Steps at either end over which the loss is averaged."""


def make_store(folder: Path) -> Path:
    """A store of generated patients, made once."""
    from alice3d.commands.prepare import PrepareConfig, run
    from alice3d.phantom.files import write_phantoms

    store = folder / "store"
    if not (store / "store.json").is_file():
        made = write_phantoms(folder / "scans", PATIENTS, seed=9, spacing_mm=(8.0, 9.0))
        names = str(made.label_names)
        run(
            PrepareConfig(
                scans=made.images, store=store, labels=made.labels, splits=made.splits, label_names=names, spacing="8"
            )
        )
    return store


def probed(encoder: Path, store: Path, out: Path) -> float:
    """Linear Dice on test from 5 labelled cases."""
    words = ["probe", str(encoder), str(store), "--labels", "5", "--split", "test", "--no-baselines"]
    if not out.is_file() and alice([*words, "--threads", "1", "--out", str(out)]):
        raise SystemExit(f"probing {encoder.name} failed")
    return float(json.loads(out.read_text(encoding="utf-8"))["linear_dice"]["mean"])


def learnt(name: str, given: argparse.Namespace, store: Path) -> dict[str, Any]:
    """Pre-train with one objective; its row."""
    folder = given.out / given.backbone
    run = folder / name
    words = ["pretrain", str(store), str(run), "--method", name, "--backbone", given.backbone, "--crop", "32"]
    words += ["--steps", str(given.steps), "--batch", "4", "--seed", str(given.seed), "--threads", "1"]
    begun = time.process_time()
    code = alice([*words, "--workers", "0", "--on-collapse", "warn", "--monitor-every", "50"])
    if code:
        raise SystemExit(f"{name} failed")
    took = time.process_time() - begun
    losses = [entry["loss"] for entry in read_log(run / "log.jsonl") if "loss" in entry]
    return {
        "objective": name,
        "backbone": given.backbone,
        "seconds_a_step": round(took / given.steps, 3),
        "loss_start": round(sum(losses[:FEW]) / FEW, 4),
        "loss_end": round(sum(losses[-FEW:]) / FEW, 4),
        "probe_after": round(probed(run, store, folder / f"{name}-probe.json"), 4),
        "seed": given.seed,
        "steps": given.steps,
        "commit": described()["commit"][:7],
    }


def untrained(given: argparse.Namespace, store: Path) -> float:
    """Linear Dice of the weights that every objective starts from."""
    folder = given.out / given.backbone / "start"
    words = ["pretrain", str(store), str(folder), "--method", "mae", "--backbone", given.backbone, "--crop", "32"]
    words += ["--steps", "1", "--learning-rate", "1e-12", "--batch", "2", "--seed", str(given.seed), "--threads", "1"]
    if alice([*words, "--workers", "0", "--monitor-every", "0"]):
        raise SystemExit("the start failed")
    return probed(folder, store, given.out / given.backbone / "start-probe.json")


def main() -> None:
    """All objectives that the backbone can learn by, each kept when it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--backbone", default="resunet")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    store = make_store(given.out)
    kept = given.out / f"{given.backbone}.csv"
    rows = list(csv.DictReader(kept.open(encoding="utf-8"))) if kept.is_file() else []
    before = untrained(given, store)
    wanted = [one for one in given.only.split(",") if one] or fitting_methods(given.backbone, {})[0]
    for name in wanted:
        if any(row["objective"] == name for row in rows):
            continue
        row = {**learnt(name, given, store), "probe_before": round(before, 4)}
        row["ended"] = "learnt" if row["probe_after"] > before else "not above untrained"
        rows.append(row)
        with kept.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
