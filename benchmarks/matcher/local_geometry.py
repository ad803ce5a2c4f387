"""Does the local affine bring labelled organs onto each other in matched crops better than moving the crop alone?

python benchmarks/matcher/local_geometry.py --matcher MATCHER --store STORE --split test --out RESULT.json
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

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep

from alice3d.data.pairs.correspondence import Correspondence, local_linear
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import read_label_grid
from alice3d.device import resolve_device
from alice3d.geometry import Grid, apply_affine, centred_grid
from alice3d.matching import Matcher
from alice3d.matching.disk_cache import EmbeddingCache
from alice3d.matching.memory_cache import EmbeddedCases

SIDE, SPACING = 32, 3.0
"""Voxels and mm of a crop."""
SHIFT_MM = 20.0
"""Crops are centred up to so far from an organ's middle along each axis, as training's are."""
MIN_VOXELS = 40
"""An organ with fewer voxels in the query's crop (about 1 ml) does not count."""
WAYS = ("translation", "turn_and_scale", "pair_affine", "local_affine", "field")
"""Translated only; rotated and scaled by the local affine; with the pair's one affine; with the local affine; and every
voxel by the field, which no crop of a grid can do: an upper bound."""


def turn_and_scale(linear: NDArray[Any]) -> NDArray[np.float64]:
    """The rotation and uniform scaling nearest to a (3, 3)."""
    left, stretch, right = np.linalg.svd(linear)
    rotation: NDArray[np.float64] = left @ np.diag([1, 1, np.sign(np.linalg.det(left @ right))]) @ right
    return rotation * stretch.mean()


def carried_labels(store: Store, key: Case, grid: Grid, centre: NDArray[Any], field: Correspondence) -> dict[str, Any]:
    """The key's labels on the query crop's grid, way by way; (x, y, z) each."""
    middle = field.map(centre[None])[0]
    linear = local_linear(field, centre)
    axes = grid.affine[:3, :3]
    ways = {
        "translation": np.eye(3),
        "turn_and_scale": turn_and_scale(linear),
        "pair_affine": field.affine[:3, :3],
        "local_affine": linear,
    }
    read = {
        way: read_label_grid(store, key, centred_grid(middle, grid.shape, change @ axes))
        for way, change in ways.items()
    }
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    there = np.rint(key.grid.index(field.map(grid.world(index)))).astype(int)
    inside = ((there >= 0) & (there < key.shape)).all(axis=1)
    label = np.zeros(len(there), np.int16)
    label[inside] = store.label(key.id)[:, :, :][tuple(there[inside].T)]
    return {**read, "field": label.reshape(grid.shape)}


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Overlap of two masks."""
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def measure(
    store: Store, scans: EmbeddedCases, pairs: list[tuple[str, str]], crops: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """A row a crop and organ: its Dice by each way."""
    rows = []
    for query_id, key_id in pairs:
        query, key = store.case(query_id), store.case(key_id)
        field = scans.matcher.fit(scans[query_id], scans[key_id]).correspondence
        if field is None:
            continue
        shared = sorted(set(query.structures) & set(key.structures))
        whole = store.label(query_id)[:, :, :]
        middles = [apply_affine(query.grid.affine, np.argwhere(whole == value)).mean(axis=0) for value in shared]
        for _ in range(crops):
            centre = middles[rng.integers(len(middles))] + rng.uniform(-SHIFT_MM, SHIFT_MM, 3)
            grid = centred_grid(centre, (SIDE,) * 3, SPACING * np.eye(3))
            own, carried = read_label_grid(store, query, grid), carried_labels(store, key, grid, centre, field)
            for value in shared:
                if (own == value).sum() >= MIN_VOXELS:
                    scores = {way: dice(own == value, carried[way] == value) for way in WAYS}
                    rows.append({"pair": (query_id, key_id), "structure": store.label_names[value], **scores})
    return rows


def summary(rows: list[dict[str, Any]], rng: np.random.Generator) -> dict[str, Any]:
    """Means, and the gain over translation with a 95 % interval over scan pairs (1,000 bootstrap draws)."""
    names = sorted({row["pair"] for row in rows})
    members = {name: [n for n, row in enumerate(rows) if row["pair"] == name] for name in names}
    draws = [
        np.concatenate([members[names[n]] for n in rng.integers(len(names), size=len(names))]) for _ in range(1000)
    ]
    table: dict[str, Any] = {"crops_with_organ": len(rows), "scan_pairs": len(names)}
    base = np.array([row["translation"] for row in rows])
    for way in WAYS:
        gain = np.array([row[way] for row in rows]) - base
        low, high = np.percentile([gain[drawn].mean() for drawn in draws], [2.5, 97.5])
        table[way] = {
            "dice": round(float(base.mean() + gain.mean()), 4),
            "gain": round(float(gain.mean()), 4),
            "gain_low": round(float(low), 4),
            "gain_high": round(float(high), 4),
            "better_share": round(float((gain > 0).mean()), 3),
        }
    return table


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matcher", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--pairs", type=int, default=60, help="scan pairs, a seeded draw")
    parser.add_argument("--crops", type=int, default=6, help="crops a scan pair")
    parser.add_argument("--cache", type=Path, help="folder that keeps embeddings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    started = time.perf_counter()
    device = resolve_device("cpu", 1)
    store = Store.open(args.store)
    matcher = Matcher.load(args.matcher, device=device, cache=EmbeddingCache(args.cache) if args.cache else None)
    cases = [case for case in store.cases(args.split) if case.structures]
    both = [(a.id, b.id) for a in cases for b in cases if a.id != b.id and set(a.structures) & set(b.structures)]
    rng = np.random.default_rng(args.seed)
    chosen = [both[n] for n in sorted(rng.choice(len(both), min(args.pairs, len(both)), replace=False))]
    rows = measure(store, EmbeddedCases(matcher, store, kept=64), chosen, args.crops, rng)
    names = sorted({row["structure"] for row in rows})
    result = {
        **summary(rows, rng),
        "by_structure": {name: summary([r for r in rows if r["structure"] == name], rng) for name in names},
        "crop": {"side_voxels": SIDE, "spacing_mm": SPACING, "shift_mm": SHIFT_MM, "min_voxels": MIN_VOXELS},
        "split": args.split,
        "seed": args.seed,
        "matcher": matcher.checksum,
        "store": store.checksum,
        "seconds": round(time.perf_counter() - started, 1),
        **described(),
    }
    keep(args.out, result)
    print(json.dumps({way: result[way] for way in WAYS}, indent=1))


if __name__ == "__main__":
    main()
