"""Reads DICOM segmentations (SEG) and structure sets (RTSTRUCT) as label maps on the voxels of their series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from alice3d.geometry import apply_affine
from alice3d.io.dicom.contours import fill_structure
from alice3d.io.dicom.series import open_dataset, pixels_of, silent, slices_of
from alice3d.io.dicom.stack import Slice
from alice3d.io.folders import clean
from alice3d.io.volume import Header, ScanError, Volume

SEG = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, Label Map Segmentation Storage."""
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
OFF = 0.1
"""Maximum distance of a segmentation's pixels from the scan's voxels, as a fraction of a voxel."""
TAGS = [
    "SOPClassUID", "FrameOfReferenceUID", "ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence",
    "StructureSetROISequence", "SegmentSequence",
]  # fmt: skip


@dataclass(frozen=True)
class LabelObject:
    """Header of a label object.

    Attributes:
        path: the file.
        series: identifiers of the series that it belongs to; never shown.
        frames: identifiers of their coordinate systems; never shown.
        names: number to name of its structures, in the object's order.
    """

    path: Path
    series: frozenset[str]
    frames: frozenset[str]
    names: dict[int, str]

    def belongs_to(self, series: str, frame: str) -> bool:
        """Whether it references a series; by the coordinate system where it references none."""
        return series in self.series if self.series else bool(frame) and frame in self.frames


@silent()
def read_object(path: Path) -> LabelObject | None:
    """Header of a file, if it is a label object; None for any other file.

    Raises:
        ScanError: damaged.
    """
    if path.is_dir():
        return None
    with path.open("rb") as file:
        if not file.read(132).endswith(b"DICM"):
            return None
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        kind = str(dataset.get("SOPClassUID") or "")
        if kind not in (*SEG, RTSTRUCT):
            return None
        series = {str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence") or ()}
        frames = {str(dataset.get("FrameOfReferenceUID") or "")}
        for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
            frames.add(str(frame.get("FrameOfReferenceUID") or ""))
            for study in frame.get("RTReferencedStudySequence") or ():
                for item in study.get("RTReferencedSeriesSequence") or ():
                    series.add(str(item.SeriesInstanceUID))
        names = {}
        for item in dataset.get("SegmentSequence") or ():
            names[int(item.SegmentNumber)] = str(item.get("SegmentLabel") or "")
        for item in dataset.get("StructureSetROISequence") or ():
            names[int(item.ROINumber)] = str(item.get("ROIName") or "")
    except OSError:
        raise
    except Exception as error:  # damaged files raise nearly any exception, and its text may hold tags
        raise ScanError(path.name, f"damaged DICOM file: {type(error).__name__} while its header was read") from None
    named = {number: clean(name.strip()) or f"structure_{number}" for number, name in sorted(names.items())}
    return LabelObject(path, frozenset(series) - {""}, frozenset(frames) - {""}, named)


def numbered(objects: Iterable[LabelObject]) -> dict[int, str]:
    """Label value (from 1) to name over many objects, in their order: a name has the same value in all of them."""
    names: dict[str, None] = {}
    for one in objects:
        names.update(dict.fromkeys(one.names.values()))
    return dict(enumerate(names, start=1))


@silent()
def read_labels(path: Path, scan: Header, names: Mapping[int, str]) -> Volume:
    """Label map of an object, on the voxels of its scan; where structures overlap, the smaller one is kept.

    Args:
        path: SEG or RTSTRUCT.
        scan: the header of the scan that it belongs to.
        names: label value to name; structures of other names are left out, with a note. Empty: the object's own
            names, numbered from 1.

    Returns:
        (i, j, k) values of the scan's shape, its affine, and notes.

    Raises:
        ScanError: damaged, of another scan, on another grid, or without any structure of `names`.
    """
    found = read_object(path)
    if found is None:
        raise ScanError(path.name, "is not a DICOM segmentation or structure set")
    series, frame = str(scan.details.get("series") or ""), str(scan.details.get("frame") or "")
    if series and not found.belongs_to(series, frame) and not (frame and frame in found.frames):
        raise ScanError(path.name, "belongs to another series than its scan")
    value_of = {name: value for value, name in (names or numbered([found])).items()}
    wanted = {number: value_of[name] for number, name in found.names.items() if name in value_of}
    left_out = [name for name in found.names.values() if name not in value_of]
    if not found.names:
        raise ScanError(path.name, "holds no structures")
    if not wanted:
        raise ScanError(path.name, f"holds no declared structure, but {', '.join(left_out)[:80]}")
    notes = [f"structures without a declared name are left out: {', '.join(sorted(left_out))[:80]}"] if left_out else []
    try:
        dataset = open_dataset(path, pixels=True)
        is_contours = str(dataset.SOPClassUID) == RTSTRUCT
        masks = dict(_contours(dataset, scan, wanted, notes) if is_contours else _segments(dataset, path, scan, wanted))
    except (ScanError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ScanError(path.name, f"damaged DICOM file: {type(error).__name__} while it was read") from None
    label = np.zeros(scan.shape, np.uint8 if max(wanted.values()) < 256 else np.int16)
    overlapped = False
    for number in sorted(masks, key=lambda n: -len(masks[n])):  # the largest first
        overlapped = overlapped or bool(label.ravel()[masks[number]].any())
        label.ravel()[masks[number]] = wanted[number]
    if overlapped:
        notes.append("structures overlap, the smaller one is kept")
    return Volume(label, scan.affine, tuple(notes))


def _contours(
    dataset: Any, scan: Header, wanted: Mapping[int, int], notes: list[str]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Number and voxels (n, indices of the flat array) of each structure of an RTSTRUCT."""
    to_index = np.linalg.inv(scan.affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])  # contours are LPS
    for item in dataset.get("ROIContourSequence") or ():
        number = int(item.ReferencedROINumber)
        if number not in wanted:
            continue
        contours = []
        for contour in item.get("ContourSequence") or ():
            if not str(contour.get("ContourGeometricType") or "").startswith("CLOSED_PLANAR"):
                notes.append("points and open contours are left out")
                continue
            points = np.array(contour.ContourData, np.float64).reshape(-1, 3)
            if not np.isfinite(points).all():
                raise ScanError("", "contours that are not finite")
            if len(points) > 2:
                contours.append(apply_affine(np.asarray(to_index, np.float64), points))
        if contours:
            mask, fault = fill_structure(contours, scan.shape)
            if fault:
                raise ScanError("", f"on another grid: {fault}")
            yield number, np.flatnonzero(mask)
    notes[:] = dict.fromkeys(notes)


def _segments(
    dataset: Any, path: Path, scan: Header, wanted: Mapping[int, int]
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
