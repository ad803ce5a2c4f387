"""How much of a landmark's error is the landmark's own: contours end where the one who drew them stopped.

python benchmarks/matcher/contour_noise.py --matcher MATCHER --store STORE --landmarks CSV --out RESULT.json

Four looks, none of which changes a matcher:
`left_out`: a smooth map between two patients fitted to the label maps of all structures but one (nearest surface points
there and back, robust affine and smooth field), and how far it carries the centroid of the one left out from its place;
`fitted`: the same with the structure itself in the fit, so that only what no smooth map can repair is left;
`offsets`: the errors of the matcher explained by one vector a scan and structure, whoever the partner: a landmark that
is drawn 5 mm high is 5 mm high for all of them;
`ends`: how the lengths of the contours along z vary between patients.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep

from alice3d.data.pairs.correspondence import fit_correspondence
from alice3d.data.store import Store
from alice3d.data.tables.landmarks import read_landmarks
from alice3d.device import resolve_device
from alice3d.evaluation.landmarks import chosen_cases, ordered_pairs
from alice3d.geometry import apply_affine, diagonal_affine
from alice3d.matching import Matcher
from alice3d.matching.disk_cache import EmbeddingCache
from alice3d.matching.memory_cache import EmbeddedCases

SURFACE = 80
"""Surface points of a structure that are carried."""
ROUNDS = 8
"""Times the nearest points are looked up again."""
MIN_STRUCTURES = 3
"""Fewer do not hold an affine."""
Marks = dict[str, dict[str, NDArray[np.float64]]]


class Shapes:
    """Surface points, centroids and ends of a case's contoured structures, by name; RAS mm."""

    def __init__(self, store: Store, case: str) -> None:
        labels, grid = store.label(case)[:, :, :], store.case(case).grid
        self.surface: dict[str, NDArray[np.float64]] = {}
        self.centroid: dict[str, NDArray[np.float64]] = {}
        self.ends: dict[str, tuple[float, float]] = {}
        for value in store.case(case).structures:
            mask, name = labels == value, store.label_names[value]
            rim = np.argwhere(mask & ~ndimage.binary_erosion(mask, border_value=1))
            points = grid.world(np.argwhere(mask))
            self.surface[name], self.centroid[name] = grid.world(rim), points.mean(axis=0)
            self.ends[name] = (float(points[:, 2].min()), float(points[:, 2].max()) + float(grid.spacing_mm[2]))

    def some(self, name: str) -> NDArray[np.float64]:
        """`SURFACE` of a structure's surface points, the same whenever asked."""
        points = self.surface[name]
        return points[np.random.default_rng(0).permutation(len(points))[:SURFACE]]


def carried(query: Shapes, key: Shapes, names: list[str], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (n, 3) of the query carried by the smooth map that fits the surfaces of the named structures best."""
    trees = {name: (cKDTree(query.surface[name]), cKDTree(key.surface[name])) for name in names}
    here, there = ({name: one.some(name) for name in names} for one in (query, key))
    middles = [np.stack([one.centroid[name] for name in names]) for one in (query, key)]
    spread = [float(np.linalg.norm(m - m.mean(axis=0))) for m in middles]
    scale = spread[1] / spread[0]
    affine = diagonal_affine((scale,) * 3, middles[1].mean(axis=0) - scale * middles[0].mean(axis=0))
    ahead = {name: apply_affine(affine, here[name]) for name in names}
    behind = {name: apply_affine(np.linalg.inv(affine), there[name]) for name in names}
    for _ in range(ROUNDS):
        rows_q = [here[name] for name in names]
        rows_k = [key.surface[name][trees[name][1].query(ahead[name])[1]] for name in names]
        rows_q += [query.surface[name][trees[name][0].query(behind[name])[1]] for name in names]
        rows_k += [there[name] for name in names]
        rows_q_n, rows_k_n = np.concatenate(rows_q), np.concatenate(rows_k)
        forward, backward = fit_correspondence(rows_q_n, rows_k_n)[0], fit_correspondence(rows_k_n, rows_q_n)[0]
        ahead = {name: forward.map(here[name]) for name in names}
        behind = {name: backward.map(there[name]) for name in names}
    return forward.map(points)


def label_maps(
    shapes: dict[str, Shapes], pairs: list[tuple[str, str]]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Distance of carried centroids from the true ones, structure by structure: left out of the fit, and in it."""
    left_out: dict[str, list[float]] = {}
    fitted: dict[str, list[float]] = {}
    for query, key in pairs:
        one, two = shapes[query], shapes[key]
        shared = sorted(one.centroid.keys() & two.centroid.keys())
        if len(shared) <= MIN_STRUCTURES:
            continue
        middles = np.stack([one.centroid[name] for name in shared])
        for name, place in zip(shared, carried(one, two, shared, middles), strict=True):
            fitted.setdefault(name, []).append(float(np.linalg.norm(place - two.centroid[name])))
        for name in shared:
            others = [other for other in shared if other != name]
            place = carried(one, two, others, one.centroid[name][None])[0]
            left_out.setdefault(name, []).append(float(np.linalg.norm(place - two.centroid[name])))
    return left_out, fitted


def offsets(scans: EmbeddedCases, marks: Marks, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """The direct match's errors, and what is left of them after one vector a scan and structure (least squares)."""
    rows: dict[str, list[tuple[str, str, NDArray[np.float64]]]] = {}
    for query, key in scans.in_blocks(pairs):
        shared = sorted(marks[query].keys() & marks[key].keys())
        points, true = (np.stack([marks[case][name] for name in shared]) for case in (query, key))
        found = scans.matcher.match(scans[query], scans[key], points, mode="direct").point_mm
        for name, error in zip(shared, found - true, strict=True):
            rows.setdefault(name, []).append((query, key, error))
    by_structure, every, rest = {}, [], []
    for name, given in sorted(rows.items()):
        cases = sorted({case for row in given for case in row[:2]})
        if len(given) < 2 * len(cases):
            continue
        design = np.zeros((len(given), len(cases)))
        for n, (query, key, _) in enumerate(given):
            design[n, cases.index(query)] += 1
            design[n, cases.index(key)] -= 1
        errors = np.stack([row[2] for row in given])
        vectors = np.linalg.lstsq(design, errors, rcond=None)[0]
        left = errors - design @ vectors
        every.append(np.linalg.norm(errors, axis=1))
        # Each vector takes a degree of freedom.
        rest.append(np.linalg.norm(left, axis=1) * np.sqrt(len(given) / (len(given) - len(cases) + 1)))
        spread = {axis: round(float(vectors[:, n].std()), 1) for n, axis in enumerate(("x_mm", "y_mm", "z_mm"))}
        by_structure[name] = {**summary(every[-1]), "left": summary(rest[-1]), "deviation_of_a_scan": spread}
    whole = np.concatenate(every)
    explained = 1 - float((np.concatenate(rest) ** 2).sum() / (whole**2).sum())
    return {
        **summary(whole),
        "left": summary(np.concatenate(rest)),
        "explained": round(explained, 3),
        "by_structure": by_structure,
    }


def summary(errors: Any) -> dict[str, float]:
    """What is reported of some distances in mm."""
    array = np.asarray(errors)
    return {
        "points": len(array),
        "mean_mm": round(float(array.mean()), 2),
        "median_mm": round(float(np.median(array)), 2),
        "within_10mm": round(float((array <= 10).mean()), 3),
    }


def ends(shapes: dict[str, Shapes]) -> dict[str, Any]:
    """Lengths of the contours along z, structure by structure."""
    found = {}
    for name in sorted({name for one in shapes.values() for name in one.ends}):
        length = np.array([one.ends[name][1] - one.ends[name][0] for one in shapes.values() if name in one.ends])
        found[name] = {
            "cases": len(length),
            "mean_mm": round(float(length.mean()), 1),
            "deviation_mm": round(float(length.std()), 1),
            "shortest_mm": round(float(length.min()), 1),
            "longest_mm": round(float(length.max()), 1),
        }
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matcher", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--pairs", type=int, default=60, help="ordered scan pairs for the label maps, a seeded draw")
    parser.add_argument("--offset-pairs", type=int, default=300, help="ordered scan pairs for the offsets")
    parser.add_argument("--cache", type=Path, help="folder that keeps embeddings")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    store = Store.open(args.store)
    cache = EmbeddingCache(args.cache) if args.cache else None
    matcher = Matcher.load(args.matcher, device=resolve_device("cpu", 1), cache=cache)
    marks = read_landmarks(args.landmarks, chosen_cases(store, args.split))
    pairs = ordered_pairs(marks, limit=args.pairs)
    shapes = {case: Shapes(store, case) for case in sorted(marks.points_mm) if store.case(case).structures}
    known = [pair for pair in pairs if pair[0] in shapes and pair[1] in shapes]
    left_out, fitted = label_maps(shapes, known)
    wide = ordered_pairs(marks, limit=args.offset_pairs, seed=1)
    result: dict[str, Any] = {"split": args.split, "scan_pairs": len(known)}
    for what, rows in (("left_out", left_out), ("fitted", fitted)):
        landmarks = [name for name in rows if name in marks.structures]
        result[what] = {
            "of_the_landmarks": summary(np.concatenate([rows[name] for name in landmarks])),
            "by_structure": {name: summary(rows[name]) for name in sorted(rows)},
        }
    result["offsets"] = offsets(EmbeddedCases(matcher, store, kept=16), marks.points_mm, wide)
    result["ends"] = ends(shapes)
    result |= {"matcher": matcher.checksum, "store": store.checksum, **described()}
    keep(args.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
