"""What keeping embeddings in fp16 or bf16 costs: landmark errors, moved matches and size against fp32.

python benchmarks/matcher/cache_precision.py --matcher MATCHER --store STORE --landmarks CSV --out RESULT.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep

from alice3d.data.store import Store
from alice3d.data.tables.landmarks import read_landmarks
from alice3d.device import resolve_device
from alice3d.evaluation.landmarks import chosen_cases, ordered_pairs
from alice3d.matching import EmbeddedScan, Matcher
from alice3d.matching.disk_cache import DTYPES, EmbeddingCache
from alice3d.matching.matcher import MODES


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matcher", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--mode", choices=MODES, default="direct")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    store = Store.open(args.store)
    matcher = Matcher.load(args.matcher, device=resolve_device("cpu", 1))
    marks = read_landmarks(args.landmarks, chosen_cases(store, args.split))
    pairs = ordered_pairs(marks)
    made = {case: matcher.embed_case(store, store.case(case)) for case in sorted(marks.points_mm)}
    found: dict[str, Any] = {}
    table: dict[str, Any] = {}
    for precision in DTYPES:
        with tempfile.TemporaryDirectory() as folder:
            cache = EmbeddingCache(Path(folder), precision)
            scans: dict[str, EmbeddedScan] = {}
            for case, scan in made.items():
                cache.write(matcher.checksum, scan)
                read = cache.read(matcher.checksum, scan.checksum)
                assert read is not None
                scans[case] = read
            size = sum(path.stat().st_size for path in Path(folder).iterdir())
        errors, points, similarities = [], [], []
        for query, key in pairs:
            shared = sorted(marks.points_mm[query].keys() & marks.points_mm[key].keys())
            here, true = (np.stack([marks.points_mm[case][name] for name in shared]) for case in (query, key))
            match = matcher.match(scans[query], scans[key], here, mode=args.mode)
            points.append(match.point_mm)
            similarities.append(match.similarity)
            errors.append(np.linalg.norm(match.point_mm - true, axis=1))
        found[precision] = (np.concatenate(points), np.concatenate(similarities))
        error = np.concatenate(errors)
        moved = np.linalg.norm(found[precision][0] - found["fp32"][0], axis=1)
        table[precision] = {
            "mean_mm": float(error.mean()),
            "median_mm": float(np.median(error)),
            "within_10mm": float((error <= 10).mean()),
            "moved_mm_mean": float(moved.mean()),
            "moved_mm_most": float(moved.max()),
            "similarity_off_most": float(np.abs(found[precision][1] - found["fp32"][1]).max()),
            "mebibytes": size / 2**20,
        }
        print(precision, json.dumps(table[precision]), flush=True)
    result = {"precisions": table, "mode": args.mode, "split": args.split, "pairs": len(pairs)}
    keep(
        args.out, {**result, "points": len(error), "matcher": matcher.checksum, "store": store.checksum, **described()}
    )


if __name__ == "__main__":
    main()
