"""Every scan of a folder written as a DICOM series and prepared: is the store the one that the files themselves give?

python benchmarks/dicom_road.py ../shared/data/headneck_ct ../shared/data/hippocampus_mr ../shared/data/torso_ct

A folder holds images/ (or the scans themselves) and, where there are some, labels/, which become DICOM segmentations.
Slices are written in a shuffled order, 16 bits a voxel; numbers that are no whole numbers get a rescale slope, the step
between their levels where they have fewer than 65,536, so that what DICOM cannot hold shows as a difference.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import described, keep
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from dicom_files import write_series
from dicom_label_files import write_seg

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.io.read import case_id, read_label, read_scan
from alice3d.io.volume import ScanError

BATCH = 40
"""Series that lie on disk at a time."""


def step_of(array: NDArray[Any]) -> float:
    """The rescale slope: 1 for whole numbers, else the smallest step between levels, or what 16 bits leave."""
    span = float(array.max()) - float(array.min())
    if (array == np.rint(array)).all() and span < 65536:
        return 1.0
    levels = np.unique(array).astype(np.float64)
    step = float(np.diff(levels).min())
    return step if span / step < 65535 else span / 65535


def as_dicom(path: Path, label: Path | None, folder: Path, modality: str) -> tuple[int, float, int]:
    """Write a scan as a series, and its label as a segmentation; slices, slope, and label values that occur."""
    volume, name = read_scan(path), case_id(path)
    step = step_of(volume.array)
    low = float(volume.array.min())
    series = folder / "dicom" / name
    write_series(series, volume.array, volume.affine, intercept=low, slope=step, modality=modality.upper())
    (folder / "direct").mkdir(exist_ok=True)
    (folder / "direct" / path.name).symlink_to(path.resolve())
    highest = 0
    if label is not None:
        marked = read_label(label)
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / path.name).symlink_to(label.resolve())
        highest = int(marked.array.max())
        present = [value for value in range(1, highest + 1) if (marked.array == value).any()]
        masks = {f"structure {value}": marked.array == value for value in present}
        write_seg(folder / "dicom" / "seg" / f"{name}.dcm", series, masks, marked.affine)
    return volume.array.shape[2], step, highest


def batch(paths: list[Path], labels: dict[str, Path], modality: Any, mm: float, folder: Path) -> list[dict[str, Any]]:
    """A row a scan: how far the two stores are apart."""
    made = {case_id(path): as_dicom(path, labels.get(case_id(path)), folder, modality) for path in paths}
    names = {value: f"structure {value}" for value in range(1, max(highest for _, _, highest in made.values()) + 1)}
    options = {"spacing_mm": (mm, mm, mm), "modality": modality, "label_names": names}
    given = folder / "labels" if (folder / "labels").exists() else None
    prepare(folder / "direct", folder / "s1", PrepareOptions(labels=given, **options))
    prepare(folder / "dicom", folder / "s2", PrepareOptions(**options))
    one, other = Store.open(folder / "s1"), Store.open(folder / "s2")
    if other.refused or one.refused:
        raise SystemExit(f"refused: {[*one.refused, *other.refused]}")
    rows = []
    for case in one.cases():
        twin = other.case(case.id)
        far = float("inf")
        if twin.shape == case.shape:
            far = float(np.abs(twin.grid.affine - case.grid.affine).max())
        image, copy = one.image(case.id)[:].astype(np.float64), other.image(case.id)[:].astype(np.float64)
        apart = float(np.abs(image - copy).max()) if image.shape == copy.shape else float("inf")
        row = {"id": case.id, "slices": made[case.id][0], "slope": made[case.id][1], "affine_mm": far, "voxels": apart}
        row["relative"] = apart / max(float(image.max() - image.min()), 1e-9)
        row["differing_voxels"] = int((image != copy).sum()) if image.shape == copy.shape else image.size
        row["same_content"] = twin.content == case.content
        row["labelled"] = case.labelled
        if case.labelled:
            same = twin.labelled and twin.shape == case.shape
            row["label_voxels"] = int((one.label(case.id)[:] != other.label(case.id)[:]).sum()) if same else -1
        rows.append(row)
    return rows


def compared(root: Path, mm: float, limit: int) -> dict[str, Any]:
    """All scans of a folder."""
    modality = "mr" if root.name.endswith("mr") else "ct"
    folder = root / "images" if (root / "images").is_dir() else root
    paths = []
    for path in sorted(folder.glob("*.nii.gz"))[: limit or None]:
        try:
            whole = modality == "mr" or float(read_scan(path).array.min()) < 0
        except ScanError:
            whole = False
        if whole:  # a label map beside the scans is none of them
            paths.append(path)
    labels = {case_id(path): root / "labels" / path.name for path in paths if (root / "labels" / path.name).exists()}
    rows: list[dict[str, Any]] = []
    begun = time.perf_counter()
    for first in range(0, len(paths), BATCH):
        temporary = Path(tempfile.mkdtemp())
        rows += batch(paths[first : first + BATCH], labels, modality, mm, temporary)
        shutil.rmtree(temporary)
        print(f"{root.name}: {len(rows)}/{len(paths)}", file=sys.stderr, flush=True)
    marked = [row for row in rows if row["labelled"]]
    return {
        "scans": len(rows),
        "slices": sum(row["slices"] for row in rows),
        "store_mm": mm,
        "worst_affine_mm": max(row["affine_mm"] for row in rows),
        "worst_voxel": max(row["voxels"] for row in rows),
        "worst_voxel_share_of_range": max(row["relative"] for row in rows),
        "scans_with_a_differing_voxel": sum(row["differing_voxels"] > 0 for row in rows),
        "scans_of_whole_numbers": sum(row["slope"] == 1 for row in rows),
        "of_them_same_content_checksum": sum(row["slope"] == 1 and row["same_content"] for row in rows),
        "labelled": len(marked),
        "labels_that_differ": sum(row["label_voxels"] != 0 for row in marked),
        "worst_label_voxels": max((row["label_voxels"] for row in marked), default=0),
        "seconds": round(time.perf_counter() - begun),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=0, help="scans a folder; 0 for all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "store" / "dicom_road.json")
    options = parser.parse_args()
    result: dict[str, Any] = {"what": "store from DICOM series against store from the files", **described()}
    limit = f" --limit {options.limit}" if options.limit else ""
    result["command"] = f"python benchmarks/dicom_road.py {' '.join(f.name for f in options.folders)}{limit}"
    spacing = {"headneck_ct": 4.0, "hippocampus_mr": 1.0, "torso_ct": 3.0}
    for root in options.folders:
        result[root.name] = compared(root, spacing.get(root.name, 2.0), options.limit)
        keep(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
