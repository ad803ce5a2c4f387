"""Landmark errors of rigid, affine and deformable registration (SimpleITK) beside the matcher's on the same scan pairs.

python benchmarks/matcher/registration.py --matcher MATCHER --store STORE --landmarks CSV --out RESULT.json

The query is fixed and the key moves, so that a transform carries query points to the key; intensities are cut to
-200 .. 300 HU. Rigid: from aligned moments, Mattes mutual information, which finds the pose of scans that cover
different parts of the body more often than correlation does. Affine: from there, correlation, which then comes closer
(each chosen on six pairs of val). Deformable, from the affine: symmetric-forces demons at 16 and 8 mm; and, for the
first `--splines` pairs, a B-spline with a control point every 60 mm under mutual information at 8 mm. CPU seconds of a
way count those that it starts from.
Rows are kept beside the result as they are made: the same call again goes on.
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

from alice3d.data.store import Store
from alice3d.data.tables.landmarks import read_landmarks
from alice3d.device import resolve_device
from alice3d.evaluation.landmarks import chosen_cases, ordered_pairs, same_place_in_box
from alice3d.matching import Matcher
from alice3d.matching.disk_cache import EmbeddingCache

WINDOW = (-200.0, 300.0)
MESH_MM = 60.0
"""Distance of the B-spline's control points."""
AIR_MM = 100.0
"""Air around the key while the pose is looked for, so that leaving it costs as leaving the body does."""
WORKING_MM = 8.0
"""Voxels of the deformable ways: at 4 mm the spline took 200 s a pair and came no closer on the pairs tried."""
WAYS = ("body_box", "rigid", "affine", "demons", "bspline", "matcher")


def image_of(store: Store, name: str) -> sitk.Image:
    """A stored scan; its coordinates are RAS mm, which ITK need not know."""
    case = store.case(name)
    array = np.clip(store.image(name)[:, :, :].astype(np.float32), *WINDOW)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing([float(mm) for mm in case.grid.spacing_mm])
    image.SetOrigin([float(mm) for mm in case.grid.affine[:3, 3]])
    return image


def at_spacing(image: sitk.Image, mm: float) -> sitk.Image:
    """The same image at coarser voxels of about `mm`, smoothed before."""
    smooth = sitk.SmoothingRecursiveGaussian(image, [mm / 2] * 3)
    sides = [n * spacing for n, spacing in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    size = [max(round(side / mm), 4) for side in sides]
    spacing = [side / n for side, n in zip(sides, size, strict=True)]
    origin = [o + (b - a) / 2 for o, a, b in zip(image.GetOrigin(), image.GetSpacing(), spacing, strict=True)]
    return sitk.Resample(
        smooth, size, sitk.Transform(), sitk.sitkLinear, origin, spacing, image.GetDirection(), WINDOW[0]
    )


def _run(fixed: sitk.Image, moving: sitk.Image, start: sitk.Transform, metric: str) -> None:
    """Improve a rigid or affine transform in place, at 16 and 8 mm."""
    method = sitk.ImageRegistrationMethod()
    if metric == "mutual_information":
        method.SetMetricAsMattesMutualInformation(32)
    else:
        method.SetMetricAsCorrelation()
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.5, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([2, 1])
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 100)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)


def register(fixed: sitk.Image, moving: sitk.Image, *, spline: bool) -> dict[str, tuple[sitk.Transform, float]]:
    """Transforms from fixed to moving points by way, and the seconds each took in all; the spline where asked."""
    started = time.process_time()
    rigid = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    air = [round(AIR_MM / mm) for mm in moving.GetSpacing()]
    _run(fixed, sitk.ConstantPad(moving, air, air, WINDOW[0]), rigid, "mutual_information")
    found = {"rigid": (sitk.Transform(rigid), time.process_time() - started)}
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetCenter(rigid.GetCenter())
    affine.SetTranslation(rigid.GetTranslation())
    _run(fixed, moving, affine, "correlation")
    until = time.process_time() - started
    found["affine"] = (sitk.Transform(affine), until)
    for name, way in (("demons", _demons), *([("bspline", _spline)] if spline else [])):
        started = time.process_time()
        transform = sitk.CompositeTransform([affine, way(fixed, moving, affine)])  # the last is applied first
        found[name] = (transform, until + time.process_time() - started)
    return found


def _spline(fixed: sitk.Image, moving: sitk.Image, affine: sitk.Transform) -> sitk.Transform:
    fixed, moving = at_spacing(fixed, WORKING_MM), at_spacing(moving, WORKING_MM)
    sides = [n * mm for n, mm in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    bending = sitk.BSplineTransformInitializer(fixed, [max(round(side / MESH_MM), 1) for side in sides])
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.2, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsLBFGSB(numberOfIterations=30)
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransform(bending, inPlace=True)
    method.Execute(fixed, moving)
    return bending


def _demons(fixed: sitk.Image, moving: sitk.Image, affine: sitk.Transform) -> sitk.Transform:
    moved = sitk.Resample(moving, fixed, affine, sitk.sitkLinear, WINDOW[0])
    field = None
    for mm in (2 * WORKING_MM, WORKING_MM):
        method = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        method.SetNumberOfIterations(50)
        method.SetStandardDeviations(1.5)
        method.SmoothUpdateFieldOn()
        method.SetUpdateFieldStandardDeviations(1.0)
        one, two = at_spacing(fixed, mm), at_spacing(moved, mm)
        if field is None:
            field = method.Execute(one, two)
        else:
            field = method.Execute(one, two, sitk.Resample(field, one, sitk.Transform(), sitk.sitkLinear, 0.0))
    return sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))


def measure(
    args: argparse.Namespace, store: Store, matcher: Matcher, marks: dict[str, dict[str, NDArray[Any]]], pairs: Any
) -> list[dict[str, Any]]:
    """A row a scan pair: errors and seconds by each way; stops when the time is over."""
    kept = args.out.with_suffix(".rows.jsonl")
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    started = time.perf_counter()
    for number, (query, key) in enumerate(pairs):
        if number < len(rows):
            continue
        if time.perf_counter() - started > args.seconds:
            break
        row = one_pair(store, matcher, marks, query, key, spline=number < args.splines)
        rows.append(row)
        with kept.open("a") as file:
            file.write(json.dumps(row) + "\n")
        means = {way: round(float(np.mean(row[way])), 1) for way in WAYS if way in row}
        print(len(rows), query, key, means, flush=True)
    return rows


def one_pair(
    store: Store, matcher: Matcher, marks: dict[str, dict[str, NDArray[Any]]], query: str, key: str, *, spline: bool
) -> dict[str, Any]:
    """Errors and CPU seconds of each way on a scan pair."""
    shared = sorted(marks[query].keys() & marks[key].keys())
    points, true = (np.stack([marks[case][name] for name in shared]) for case in (query, key))
    row: dict[str, Any] = {"query": query, "key": key, "structures": shared}
    for name, (transform, took) in register(image_of(store, query), image_of(store, key), spline=spline).items():
        there = np.array([transform.TransformPoint([float(mm) for mm in point]) for point in points])
        row[name], row[f"{name}_s"] = np.linalg.norm(there - true, axis=1).tolist(), took
    before = time.process_time()
    one, two = (matcher.embed_case(store, store.case(name)) for name in (query, key))
    embedded = time.process_time()
    row["matcher"] = np.linalg.norm(matcher.match(one, two, points).point_mm - true, axis=1).tolist()
    row["matcher_s"], row["embedding_s"] = time.process_time() - embedded, embedded - before
    row["body_box"] = np.linalg.norm(same_place_in_box(one, two, points) - true, axis=1).tolist()
    return row


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matcher", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--pairs", type=int, default=60, help="ordered scan pairs, a seeded draw in a seeded order")
    parser.add_argument("--splines", type=int, default=20, help="pairs that are bent by a B-spline, too")
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
        same = np.concatenate([row["matcher"] for row in having])
        ways[way] = {
            "scan_pairs": len(having),
            "matcher_mean_mm": float(same.mean()),
            "mean_mm": float(error.mean()),
            "median_mm": float(np.median(error)),
            "within_5mm": float((error <= 5).mean()),
            "within_10mm": float((error <= 10).mean()),
            "cpu_seconds_a_pair": float(np.median([row[f"{way}_s"] for row in having])) if way != "body_box" else None,
        }
    result = {
        "ways": ways,
        "scan_pairs": len(rows),
        "drawn": args.pairs,
        "points": sum(len(row["matcher"]) for row in rows),
        "embedding_cpu_seconds_a_pair": float(np.median([row["embedding_s"] for row in rows])),
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
