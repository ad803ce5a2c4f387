"""A folder of binary masks, each named after its structure, as one label map: TotalSegmentator and its like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alice3d.data.preprocessing.label_grid import onto_scan
from alice3d.geometry import to_closest_ras
from alice3d.io.folders import clean
from alice3d.io.read import case_id, is_data_file, read_label, reader_of
from alice3d.io.volume import Header, ScanError, Unoriented, Volume


def names_of_masks(folder: Path) -> dict[str, Path]:
    """Structure to its file, sorted.

    Raises:
        ScanError: no mask there, or two of one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        extension = reader_of(path)
        if path.name.startswith(".") or extension is None or is_data_file(path, extension):
            continue
        name = clean(case_id(path))
        if name in found:
            raise ScanError(folder.name, f"two masks of one name: {found[name].name} and {path.name}; remove one")
        found[name] = path
    if not found:
        raise ScanError(folder.name, "holds no masks")
    return found


def read_masks(folder: Path, scan: Header, names: Mapping[int, str], unoriented: Unoriented) -> Volume:
    """Label map of a folder of masks; where structures overlap, the smaller one is kept.

    Args:
        folder: of the masks.
        scan: the header of the scan that they belong to.
        names: label value to name; structures of other names are left out, with a note.
        unoriented: orientation of a file that gives none.

    Returns:
        (i, j, k) values with axes closest to R, A, S, their affine, and notes.

    Raises:
        ScanError: no mask, one that is not binary or lies on another grid, or no structure of `names`.
    """
    found = names_of_masks(folder)
    value_of = {name: value for value, name in names.items()}
    left_out = [name for name in found if name not in value_of]
    wanted = {name: path for name, path in found.items() if name in value_of}
    if not wanted:
        raise ScanError(folder.name, f"holds no declared structure, but {', '.join(left_out)[:80]}")
    notes = [f"structures without a declared name are left out: {', '.join(left_out)[:80]}"] if left_out else []
    turned, affine = to_closest_ras(np.broadcast_to(np.uint8(0), scan.shape), scan.affine)
    inside: dict[str, NDArray[np.int64]] = {}
    for name, path in wanted.items():
        mask = read_label(path, unoriented=unoriented)
        if mask.array.any() and len(np.flatnonzero(np.bincount(mask.array.ravel()))) > 2:
            raise ScanError(path.name, "several values: a mask of one structure holds 0 and one more")
        fitted = onto_scan(mask.array, mask.affine, scan.shape, scan.affine, path.name)
        if fitted.label.shape != turned.shape:
            raise ScanError(path.name, "on another grid: finer than its scan; resample it to the scan's voxels")
        inside[name] = np.flatnonzero(fitted.label)
    label = np.zeros(turned.shape, np.uint8 if max(value_of[name] for name in wanted) < 256 else np.int16)
    overlapped = False
    for name in sorted(inside, key=lambda name: (-len(inside[name]), name)):  # the largest first
        overlapped = overlapped or bool(label.ravel()[inside[name]].any())
        label.ravel()[inside[name]] = value_of[name]
    if overlapped:
        notes.append("structures overlap, the smaller one is kept")
    return Volume(label, affine, tuple(notes))
