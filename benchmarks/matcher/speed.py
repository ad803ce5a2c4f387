"""Ratios of speed: 1,000 points in one batch against one at a time; a scan whole against in overlapping windows.

python benchmarks/matcher/speed.py --matcher MATCHER --store STORE --out RESULT.json

Windows are what published code embeds a scan by: crops of the training size at half their side, overlaps averaged.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep

from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.store import Store
from alice3d.device import resolve_device
from alice3d.matching import Matcher
from alice3d.matching.embedding import embed_image
from alice3d.matching.matcher import body_points
from alice3d.matching.search import search_all

WINDOW = 64
"""Voxels of a window's side."""


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The shortest of some runs: others use the machine, too."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


@torch.no_grad()
def in_windows(matcher: Matcher, scan: ScanInput) -> None:
    """Embed overlapping windows and average them where they overlap."""
    image = torch.from_numpy(scan.image)
    shape = [max(n + -n % 8, WINDOW) for n in image.shape[1:]]
    padded = torch.zeros(len(image), *shape)
    padded[:, *(slice(n) for n in image.shape[1:])] = image
    starts = [sorted({*range(0, n - WINDOW + 1, WINDOW // 2), n - WINDOW}) for n in shape]
    sums: list[torch.Tensor] | None = None
    for corner in itertools.product(*starts):
        maps = matcher.network(padded[None, :, *(slice(a, a + WINDOW) for a in corner)])
        if sums is None:
            sums = [
                torch.zeros(piece.shape[1], *(n // stride for n in shape))
                for piece, stride in zip(maps, (2, 8), strict=True)
            ]
        for total, piece, stride in zip(sums, maps, (2, 8), strict=True):
            total[:, *(slice(a // stride, a // stride + WINDOW // stride) for a in corner)] += piece[0]


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matcher", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    store = Store.open(args.store)
    matcher = Matcher.load(args.matcher, device=resolve_device("cpu", 1))
    cases = store.cases(args.split)[:2]
    scans = [ScanInput.of_case(store, case, matcher.rule, matcher.spacing_mm) for case in cases]
    query, key = (matcher.embed_case(store, case) for case in cases)
    points = body_points(query, 2 * args.points)
    points = points[np.random.default_rng(0).permutation(len(points))[: args.points]]
    vectors = query.at(points)
    search_all(vectors[:10], key)  # vectors of the key's cells are made once
    batch = seconds(lambda: search_all(query.at(points), key))
    some = points[:100]
    one = seconds(lambda: [search_all(query.at(point[None]), key) for point in some]) * len(points) / len(some)
    fit = seconds(lambda: matcher.fit(query, key), 2)
    whole = seconds(lambda: embed_image(matcher.network, scans[1].image, scans[1].air), 2)
    windows = seconds(lambda: in_windows(matcher, scans[1]), 1)
    result = {
        "points": len(points),
        "batch_s": batch,
        "one_at_a_time_s": one,
        "batch_is_times_as_fast": one / batch,
        "same_points": bool(
            np.allclose(search_all(vectors[:20], key), [search_all(v[None], key)[0] for v in vectors[:20]], atol=0.01)
        ),
        "fit_of_a_scan_pair_s": fit,
        "scan_voxels": int(np.prod(scans[1].grid.shape)),
        "embed_whole_s": whole,
        "embed_in_windows_s": windows,
        "whole_is_times_as_fast": windows / whole,
        "matcher": matcher.checksum,
        "store": store.checksum,
        "threads": 1,
        **described(),
    }
    keep(args.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
