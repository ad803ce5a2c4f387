"""Landmark errors of rigid, affine and B-spline registration (SimpleITK) beside the matcher's on the same scan pairs.

python benchmarks/matcher/registration.py --matcher MATCHER --store STORE --landmarks CSV --out RESULT.json

Each registration starts from the one before it (first: middles of the bodies aligned). Mattes mutual information, three
resolutions, query fixed and key moving, so that the transform carries query points to the key. Scans at the store's
spacing, intensities cut to -200 .. 300 HU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep

from alice3d.data.landmarks import read_landmarks
from alice3d.data.store import Store
from alice3d.engine.device import resolve_device
from alice3d.evaluation.matching import chosen_cases, ordered_pairs, same_place_in_box
from alice3d.matching import Matcher
from alice3d.matching.cache import EmbeddingCache

WINDOW = (-200.0, 300.0)
MESH_MM = 60.0
"""Distance of the B-spline's control points."""
WAYS = ("body_box", "rigid", "affine", "bspline", "matcher")


def image_of(store: Store, name: str) -> sitk.Image:
    """A stored scan; its coordinates are RAS mm, which ITK need not know."""
    case = store.case(name)
    array = np.clip(store.image(name)[:, :, :].astype(np.float32), *WINDOW)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing([float(mm) for mm in case.grid.spacing_mm])
    image.SetOrigin([float(mm) for mm in case.grid.affine[:3, 3]])
    return image


def _registration() -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.2, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    return method


def register(fixed: sitk.Image, moving: sitk.Image, *, spline: bool) -> dict[str, tuple[sitk.Transform, float]]:
    """Transforms from fixed to moving points, and the seconds each took in all; the B-spline only where asked."""
    started = time.perf_counter()
    found: dict[str, tuple[sitk.Transform, float]] = {}
    rigid = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    affine = sitk.AffineTransform(3)
    for name in ("rigid", "affine"):
        start = rigid if name == "rigid" else affine
        method = _registration()
        method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 100)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(start, inPlace=True)
        method.Execute(fixed, moving)
        found[name] = (sitk.Transform(start), time.perf_counter() - started)
        if name == "rigid":
            affine.SetMatrix(rigid.GetMatrix())
            affine.SetCenter(rigid.GetCenter())
            affine.SetTranslation(rigid.GetTranslation())
    return {**found, "bspline": _spline(fixed, moving, affine, started)} if spline else found


def _spline(
    fixed: sitk.Image, moving: sitk.Image, affine: sitk.Transform, started: float
) -> tuple[sitk.Transform, float]:
    sides = [n * mm for n, mm in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    mesh = [max(round(side / MESH_MM), 1) for side in sides]
    bending = sitk.BSplineTransformInitializer(fixed, mesh)
    method = _registration()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([1, 0])
    method.SetOptimizerAsLBFGSB(numberOfIterations=30)
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransform(bending, inPlace=True)
    method.Execute(fixed, moving)
    both = sitk.CompositeTransform([affine, bending])  # the last is applied first
    return both, time.perf_counter() - started


def measure(
    args: argparse.Namespace, store: Store, matcher: Matcher, marks: dict[str, dict[str, NDArray[Any]]], pairs: Any
) -> list[dict[str, Any]]:
    """A row a scan pair: errors and seconds by each way; stops when the time is over."""
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    for query, key in pairs:
        if time.perf_counter() - started > args.seconds:
            break
        shared = sorted(marks[query].keys() & marks[key].keys())
        points, true = (np.stack([marks[case][name] for name in shared]) for case in (query, key))
        row: dict[str, Any] = {"query": query, "key": key}
        for name, (transform, took) in register(
            image_of(store, query), image_of(store, key), spline=len(rows) < args.splines
        ).items():
            there = np.array([transform.TransformPoint([float(mm) for mm in point]) for point in points])
            row[name] = np.linalg.norm(there - true, axis=1)
            row[f"{name}_s"] = took
        before = time.perf_counter()
        one, two = (matcher.embed_case(store, store.case(name)) for name in (query, key))
        embedded = time.perf_counter()
        row["matcher"] = np.linalg.norm(matcher.match(one, two, points).point_mm - true, axis=1)
        row["matcher_s"], row["embedding_s"] = time.perf_counter() - embedded, embedded - before
        row["body_box"] = np.linalg.norm(same_place_in_box(one, two, points) - true, axis=1)
        rows.append(row)
        print(len(rows), query, key, {way: round(float(row[way].mean()), 1) for way in WAYS if way in row}, flush=True)
    return rows


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matcher", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--pairs", type=int, default=60, help="ordered scan pairs, a seeded draw in a seeded order")
    parser.add_argument("--splines", type=int, default=3, help="pairs that are bent, too: minutes each")
    parser.add_argument("--seconds", type=float, default=3600.0, help="no pair is begun later")
    parser.add_argument("--cache", type=Path, help="folder that keeps embeddings")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    store = Store.open(args.store)
    cache = EmbeddingCache(args.cache) if args.cache else None
    matcher = Matcher.load(args.matcher, device=resolve_device("cpu", 1), cache=cache)
    marks = read_landmarks(args.landmarks, chosen_cases(store, args.split))
    drawn = ordered_pairs(marks, limit=args.pairs)
    drawn = [drawn[n] for n in np.random.default_rng(0).permutation(len(drawn))]
    rows = measure(args, store, matcher, marks.points_mm, drawn)
    ways: dict[str, Any] = {}
    for way in WAYS:
        having = [row for row in rows if way in row]
        if not having:
            continue
        error = np.concatenate([row[way] for row in having])
        ways[way] = {
            "scan_pairs": len(having),
            "mean_mm": float(error.mean()),
            "median_mm": float(np.median(error)),
            "within_5mm": float((error <= 5).mean()),
            "within_10mm": float((error <= 10).mean()),
            "seconds_a_pair": float(np.median([row[f"{way}_s"] for row in having])) if way != "body_box" else None,
        }
    result = {
        "ways": ways,
        "scan_pairs": len(rows),
        "drawn": args.pairs,
        "points": sum(len(row["matcher"]) for row in rows),
        "embedding_seconds_a_pair": float(np.median([row["embedding_s"] for row in rows])),
        "split": args.split,
        "simpleitk": sitk.Version_VersionString(),
        "matcher": matcher.checksum,
        "store": store.checksum,
        "threads": 1,
        **described(),
    }
    keep(args.out, result)
    print(json.dumps(ways, indent=1))


if __name__ == "__main__":
    main()
