"""Dice of labels carried onto the test scans from one and from five labelled scans, in each scan's own grid.

python benchmarks/matcher/propagate.py MATCHER STORE SCANS LABELS [--split test] [--out FILE]

STORE gives splits and label names; SCANS and LABELS are the files it was prepared from. The five labelled scans are the
first five of a seeded draw among the cases of split train in which every structure was contoured; `one` is the mean
over those five, each taken alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described

import alice3d
from alice3d.api.matching import embed
from alice3d.data.store import Store
from alice3d.geometry import Grid
from alice3d.io.read import read_label, read_scan
from alice3d.matching.memory_cache import RememberingMatcher
from alice3d.matching.propagation import VOTE, Atlas, carry_labels


def grid_of(volume) -> Grid:
    return Grid(volume.array.shape, volume.affine)


def dice(found, true) -> float:
    return float(2 * (found & true).sum() / max(found.sum() + true.sum(), 1))


def summary(rows: dict[str, list[float]]) -> dict:
    means = {name: round(float(np.mean(values)), 4) for name, values in sorted(rows.items())}
    return {"mean": round(float(np.mean(list(means.values()))), 4), "by_structure": means}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("matcher", "store", "scans", "labels"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vote", type=float, default=VOTE)
    parser.add_argument("--limit", type=int, default=0, help="cases; 0 = all")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    store, matcher = Store.open(given.store), RememberingMatcher.load(given.matcher)

    def scan(case):
        return embed(matcher, given.scans / f"{case.id}.nii.gz")

    full = [case for case in store.cases("train") if len(case.structures) == len(store.label_names)]
    order = np.random.default_rng(given.seed).permutation(len(full))[: given.count]
    chosen = [full[n] for n in order]
    atlases = []
    for case in chosen:
        label = read_label(given.labels / f"{case.id}.nii.gz")
        atlases.append(Atlas(scan(case), label.array, grid_of(label)).cropped())
    rows: dict[str, dict[str, list[float]]] = {"one": {}, "all": {}}
    seconds = []
    cases = [case for case in store.cases(given.split) if case.structures][: given.limit or None]
    for done, case in enumerate(cases, 1):
        volume = read_scan(given.scans / f"{case.id}.nii.gz")
        true = read_label(given.labels / f"{case.id}.nii.gz").array
        started = time.process_time()
        target = embed(matcher, volume)
        made = {"all": [carry_labels(matcher, atlases, target, grid_of(volume), vote=given.vote)]}
        seconds.append(time.process_time() - started)
        made["one"] = [carry_labels(matcher, [one], target, grid_of(volume), vote=given.vote) for one in atlases]
        for kind, results in made.items():
            for value in case.structures:
                scores = [dice(one.labels == value, true == value) for one in results]
                rows[kind].setdefault(store.label_names[value], []).append(float(np.mean(scores)))
        print(f"{done}/{len(cases)} {case.id} {np.mean([v[-1] for v in rows['all'].values()]):.3f}", file=sys.stderr)
    result = {
        "what": "Dice of propagated labels, in each scan's own grid",
        "version": alice3d.__version__,
        "matcher": matcher.checksum,
        "store": store.checksum,
        "split": given.split,
        "cases": len(cases),
        "atlases": [case.id for case in chosen],
        "seed": given.seed,
        "vote": given.vote,
        "one": summary(rows["one"]),
        f"all_{len(chosen)}": summary(rows["all"]),
        "cpu_seconds_a_scan": round(float(np.median(seconds)), 2),
        **described(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
