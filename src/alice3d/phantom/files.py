"""Writes generated patients as NIfTI files with labels, landmarks and splits, to be read like a user's scans."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from alice3d.errors import WorkFailed
from alice3d.executors import DIED, run_batch
from alice3d.files import replacing, write_text
from alice3d.phantom.patient import LABEL_NAMES, make_phantom

UNLABELLED_SPLIT = "pretrain"
Mark = tuple[str, str, float, float, float]
"""Case, structure and the point in RAS mm."""


@dataclass(frozen=True)
class PhantomFiles:
    """Files of `write_phantoms`."""

    images: Path
    labels: Path
    label_names: Path
    landmarks: Path
    splits: Path
    cases: dict[str, list[str]]
    """Split to case ids."""

    @classmethod
    def in_folder(cls, folder: Path, cases: dict[str, list[str]]) -> PhantomFiles:
        """The paths of the files in a folder."""
        return cls(
            images=folder / "images",
            labels=folder / "labels",
            label_names=folder / "label_names.json",
            landmarks=folder / "landmarks.csv",
            splits=folder / "splits.json",
            cases=cases,
        )

    @classmethod
    def finished(cls, folder: Path) -> PhantomFiles | None:
        """Files of an earlier call of `write_phantoms`; None where it did not finish."""
        try:
            files = cls.in_folder(folder, json.loads((folder / "splits.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None
        return files if files.landmarks.is_file() else None


def write_phantoms(
    folder: Path,
    splits: Mapping[str, int],
    seed: int,
    *,
    spacing_mm: tuple[float, float] = (3.6, 4.4),
    coverage: tuple[float, float] = (0.7, 0.96),
    with_body: bool = False,
    workers: int = 1,
    done: Callable[[], None] | None = None,
) -> PhantomFiles:
    """Write patients 0, 1, ... of `seed`, the same files for the same arguments.

    `images/phantom_000.nii.gz` (int16 HU), `labels/phantom_000.nii.gz` (uint8; of every split but `pretrain`),
    `label_names.json` (value to name), `landmarks.csv` (case, structure, x_mm, y_mm, z_mm in RAS; every case) and
    `splits.json` (split to case ids). Each file is written atomically; existing volumes are kept.

    Args:
        folder: created where missing.
        splits: split name to number of patients, in this order.
        seed: of the patients; patient n depends on (seed, n) only.
        spacing_mm, coverage: see `make_phantom`.
        with_body: also label the tissue that belongs to no other structure.
        workers: processes.
        done: called after each patient.
    """
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    jobs: list[dict[str, Any]] = []
    cases: dict[str, list[str]] = {}
    for split, count in splits.items():
        cases[split] = [f"phantom_{len(jobs) + n:03d}" for n in range(count)]
        for name in cases[split]:
            labelled = split != UNLABELLED_SPLIT
            jobs.append({"folder": folder, "name": name, "seed": (seed, len(jobs)), "labelled": labelled})
    common = {"spacing_mm": spacing_mm, "coverage": coverage, "with_body": with_body}
    by_name: dict[str, list[Mark]] = {}
    for name, marks in run_batch(_write_job, [{**job, **common} for job in jobs], jobs=workers, lost=_lost):
        by_name[name] = marks
        if done is not None:
            done()
    rows = [row for job in jobs for row in by_name[job["name"]]]
    files = PhantomFiles.in_folder(folder, cases)
    names = {str(value): name for value, name in LABEL_NAMES.items() if with_body or name != "body"}
    files.label_names.write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")
    files.splits.write_text(json.dumps(cases, indent=2) + "\n", encoding="utf-8")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "structure", "x_mm", "y_mm", "z_mm"])
    writer.writerows(rows)
    write_text(files.landmarks, text.getvalue())  # the last file: if it exists, all do
    return files


def _lost(job: dict[str, Any]) -> tuple[str, list[Mark]]:
    """Raises WorkFailed: without the patient the set would not be that of its seed."""
    raise WorkFailed(f"{job['name']}: {DIED}")


def _write_job(job: dict[str, Any]) -> tuple[str, list[Mark]]:
    """Write one patient; returns its name and the rows of its landmarks."""
    phantom = make_phantom(
        np.random.default_rng(job["seed"]), name=job["name"], spacing_mm=job["spacing_mm"], coverage=job["coverage"]
    )
    _write_nifti(job["folder"] / "images" / f"{phantom.name}.nii.gz", phantom.image, phantom.grid.affine)
    if job["labelled"]:
        body = max(LABEL_NAMES)
        labels = phantom.labels if job["with_body"] else np.where(phantom.labels == body, 0, phantom.labels)
        _write_nifti(job["folder"] / "labels" / f"{phantom.name}.nii.gz", labels.astype(np.uint8), phantom.grid.affine)
    return phantom.name, [
        (phantom.name, structure, *(round(float(value), 3) for value in point))  # type: ignore[misc]
        for structure, point in phantom.landmarks_mm.items()
    ]


def _write_nifti(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write atomically, with the affine as sform and qform; an existing file is kept."""
    if path.exists():
        return
    image: Any = nib.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with replacing(path) as temporary:
        nib.save(image, temporary)
