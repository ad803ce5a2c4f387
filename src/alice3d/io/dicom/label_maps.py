"""Reads DICOM segmentations (SEG) and structure sets (RTSTRUCT) as label maps on the voxels of their series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.geometry import apply_affine
from alice3d.io.dicom.contours import fill_structure
from alice3d.io.dicom.labels import RTSTRUCT, LabelObject, read_object
from alice3d.io.dicom.series import kind_of, open_dataset, pixels_of, silent, slices_of
from alice3d.io.dicom.stack import Slice
from alice3d.io.structures import few, numbered, painted
from alice3d.io.volume import Header, ScanError, Volume

OFF = 0.1
"""Maximum distance of a segmentation's pixels from the scan's voxels, as a fraction of a voxel."""
CLOSED = {"CLOSEDPLANAR", "CLOSEDPLANARXOR", "INTERPOLATEDPLANAR"}
"""ContourGeometricType of closed polygons (DICOM C.8.8.6.1), without underscores; a contour in a contour is a hole."""


@silent()
def read_labels(paths: Path | Sequence[Path], scan: Header, names: Mapping[int, str]) -> Volume:
    """Label map of one or more objects, on the voxels of their scan; where structures overlap, the smaller one is kept.

    Args:
        paths: SEG or RTSTRUCT; structures of several objects are joined, those of one name to one.
        scan: the header of the scan that they belong to.
        names: label value to name; structures of other names are left out, with a note. Empty: the objects' own names,
            numbered from 1.

    Returns:
        (i, j, k) values of the scan's shape, its affine, and notes.

    Raises:
        ScanError: damaged, of another scan, on another grid, or without any structure of `names`.
    """
    objects = [_object_of(path, scan) for path in ([paths] if isinstance(paths, Path) else paths)]
    value_of = {name: value for value, name in (names or numbered(one.names.values() for one in objects)).items()}
    left_out = sorted({name for one in objects for name in one.names.values() if name not in value_of})
    if not any(one.names for one in objects):
        raise ScanError(objects[0].path.name, "holds no structures")
    if not any(name in value_of for one in objects for name in one.names.values()):
        raise ScanError(objects[0].path.name, f"holds no declared structure, but {few(left_out)}")
    notes = [f"structures without a declared name are left out: {few(left_out)}"] if left_out else []
    voxels: dict[int, list[NDArray[np.int64]]] = {}
    held: dict[int, int] = {}
    for one in objects:
        found = _structures(one, scan, value_of, notes)
        for value, places in found.items():
            voxels.setdefault(value, []).extend(places)
            held[value] = held.get(value, 0) + 1
    twice = [name for name, value in value_of.items() if held.get(value, 0) > 1]
    if twice:
        notes.append(f"structures in several objects are joined: {few(twice)}")
    masks = {value: np.unique(np.concatenate(places)) for value, places in voxels.items()}
    label, overlapped = painted(masks, scan.shape)
    notes += ["structures overlap, the smaller one is kept"] if overlapped else []
    return Volume(label, scan.affine, tuple(dict.fromkeys(notes)))


def _object_of(path: Path, scan: Header) -> LabelObject:
    """A label object that belongs to a scan.

    Raises:
        ScanError: it is none, or belongs to another scan.
    """
    found = read_object(path)
    if found is None:
        raise ScanError(path.name, "is not a DICOM segmentation or structure set")
    series, frame, owner = (str(scan.details.get(key) or "") for key in ("series", "frame", "owner"))
    if owner and found.owner and owner != found.owner:
        raise ScanError(path.name, "belongs to another patient than its scan")
    if series and not found.belongs_to(series, frame) and not (frame and frame in found.frames):
        raise ScanError(path.name, "belongs to another series than its scan")
    return found


def _structures(
    one: LabelObject, scan: Header, value_of: Mapping[str, int], notes: list[str]
) -> dict[int, list[NDArray[np.int64]]]:
    """Label value to voxels (n, indices of the flat array), a list for each structure of that value."""
    wanted = {number: name for number, name in one.names.items() if name in value_of}
    try:
        dataset = open_dataset(one.path, pixels=True, force=True)
        if kind_of(dataset) == RTSTRUCT:
            masks = dict(_contours(dataset, scan, wanted, notes))
        else:
            masks = dict(_segments(dataset, one.path, scan, wanted))
    except (ScanError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ScanError(one.path.name, f"damaged DICOM file: {type(error).__name__} while it was read") from None
    found: dict[int, list[NDArray[np.int64]]] = {}
    for number, voxels in masks.items():
        found.setdefault(value_of[wanted[number]], []).append(voxels)
    return found


def _contours(
    dataset: Any, scan: Header, wanted: Mapping[int, str], notes: list[str]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Number and voxels (n, indices of the flat array) of each structure of an RTSTRUCT; those that cannot be used are
    left out with a note.

    Raises:
        ScanError: none can be used.
    """
    to_index = np.linalg.inv(scan.affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])  # contours are LPS
    faults, used = [], False
    for item in dataset.get("ROIContourSequence") or ():
        number = int(item.ReferencedROINumber)
        if number not in wanted:
            continue
        mask, fault, note = _filled(item, np.asarray(to_index, np.float64), scan.shape)
        notes += [f"{wanted[number]}: {said}" for said in (note, fault and f"{fault}, left out") if said]
        if fault:
            faults.append(fault)
        elif mask is not None:
            used = True
            yield number, np.flatnonzero(mask)
    if faults and not used:
        raise ScanError("", f"on another grid: {faults[0]}")


def _filled(
    item: Any, to_index: NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[NDArray[np.bool_] | None, str, str]:
    """A structure (i, j, k), None where nothing is drawn; a fault for which it is left out; and a note."""
    contours, others = [], 0
    for contour in item.get("ContourSequence") or ():
        kind = str(contour.get("ContourGeometricType") or "").upper().replace("_", "").replace(" ", "")
        try:
            points = np.array(contour.get("ContourData") or (), np.float64).reshape(-1, 3)
        except (TypeError, ValueError):
            return None, "its contours are damaged", ""
        if not np.isfinite(points).all():
            return None, "its contours are not finite", ""
        if kind not in CLOSED or len(points) < 3:
            others += 1
            continue
        contours.append(apply_affine(to_index, points))
    note = "points and open contours are left out" if others else ""
    if not contours:
        return None, "", note
    mask, fault, cut = fill_structure(contours, shape)
    return mask, fault, "; ".join(filter(None, (note, "it reaches beyond the scan and is cut there" if cut else "")))


def _segments(
    dataset: Any, path: Path, scan: Header, wanted: Mapping[int, str]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Number and voxels (n, indices of the flat array) of each segment of a SEG, whatever the order of its frames."""
    kind = str(dataset.get("SegmentationType") or "BINARY")
    pixels = pixels_of(dataset, path.name)
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if kind == "FRACTIONAL":
        pixels = pixels > int(dataset.get("MaximumFractionalValue") or 255) / 2
    places: dict[int, list[NDArray[np.int64]]] = {}
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        raise ScanError("", "no position: frames without positions")
    for piece in slices_of(dataset, path, path.name):
        frame = pixels[piece.frame]
        if not frame.any():
            continue
        for number in (
            [int(v) for v in np.unique(frame) if v] if kind == "LABELMAP" else [_segment(groups, dataset, piece)]
        ):
            if number in wanted:
                inside = np.argwhere(frame == number if kind == "LABELMAP" else frame != 0)
                places.setdefault(number, []).append(_voxels(inside, piece, scan))
    for number, parts in places.items():
        yield number, np.unique(np.concatenate(parts))


def _segment(groups: Any, dataset: Any, piece: Slice) -> int:
    """Number of the segment that a frame belongs to."""
    for group in (groups[piece.frame], *(dataset.get("SharedFunctionalGroupsSequence") or ())):
        for item in group.get("SegmentIdentificationSequence") or ():
            return int(item.ReferencedSegmentNumber)
    raise ScanError("", "damaged DICOM file: a frame without its segment's number")


def _voxels(inside: NDArray[Any], piece: Slice, scan: Header) -> NDArray[np.int64]:
    """Voxels of the scan (n, indices of the flat array) at pixels (n, 2: row, column) of a frame."""
    step = np.array(
        [np.multiply(piece.axes[3:], piece.spacing_mm[0]), np.multiply(piece.axes[:3], piece.spacing_mm[1])]
    )
    world = np.asarray((np.array(piece.position_mm) + inside @ step) * [-1, -1, 1], np.float64)
    index = apply_affine(np.asarray(np.linalg.inv(scan.affine), np.float64), world)
    nearest: NDArray[np.int64] = np.rint(index).astype(np.int64)
    if np.abs(index - nearest).max() > OFF or (nearest < 0).any() or (nearest >= scan.shape).any():
        raise ScanError("", "on another grid: its pixels do not lie on the voxels of its scan")
    flat: NDArray[np.int64] = np.ravel_multi_index(tuple(nearest.T), scan.shape)
    return flat
