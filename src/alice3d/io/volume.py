"""Types that all readers return, and the checks of scans of every format."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alice3d.errors import UserError
from alice3d.geometry import Affine, check_affine
from alice3d.io.forms import Forms

Unoriented = Literal["refuse", "las", "ras"]
"""Orientation of a file that gives none."""
MAX_VOXELS = 2**31
"""More than any scanner makes (1024 x 1024 x 2048); a header that states more is damaged."""
MIN_SIDE = 2


class ScanError(UserError):
    """A scan that is refused.

    Attributes:
        name: of the file, as shown to the user.
        reason: what is wrong: `kind: detail`, without the file's name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type[ScanError], tuple[str, str]]:
        return ScanError, (self.name, self.reason)


def damaged(error: Exception) -> str:
    """The reason where a reader failed unexpectedly: only the error's type, its text may hold a patient's name."""
    return f"damaged file: {type(error).__name__} while it was read"


@dataclass(frozen=True)
class Header:
    """Properties of a scan before its voxels are read.

    Attributes:
        path: the file, or the folder of a DICOM series.
        format: nifti, analyze, nrrd, metaimage, dicom.
        shape: voxels along i, j, k.
        affine: voxel index to RAS mm, (4, 4).
        dtype: of the values in the file.
        notes: remarks and repairs, for the user.
        details: what the reader of this format needs to find the voxels.
        remarks: notes that come up while the voxels are read.
    """

    path: Path
    format: str
    shape: tuple[int, int, int]
    affine: Affine
    dtype: np.dtype[Any]
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    remarks: list[str] = field(default_factory=list, repr=False, compare=False)

    def noted(self, *notes: str) -> Header:
        """The same with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    def volume(self, array: NDArray[Any]) -> Volume:
        """A scan in memory from this header and its voxels (i, j, k)."""
        notes = (*self.notes, *self.remarks)
        return Volume(array, self.affine, notes, self.details.get("forms"), self.details.get("modality", ""))


@dataclass(frozen=True)
class Volume:
    """A scan in memory.

    Attributes:
        array: (i, j, k) values in the scanner's units: any scaling of the file is applied.
        affine: voxel index to RAS mm, (4, 4).
        notes: remarks and repairs.
        forms: sform and qform of a NIfTI scan, for maps in its space; None for other formats.
        modality: what a DICOM header says; "" where nothing does.
    """

    array: NDArray[Any]
    affine: Affine
    notes: tuple[str, ...] = ()
    forms: Forms | None = field(default=None, repr=False)
    modality: str = ""


def listed_sides(dims: Sequence[int]) -> str:
    """Dimensions for a message."""
    return " x ".join(str(n) if abs(n) < 10**9 else "more than 10^9" for n in dims[:8]) + " ..." * (len(dims) > 8)


def check_shape(dims: tuple[int, ...], name: str) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Three sides out of the dimensions of a file, and notes; a fourth one of length 1 is dropped.

    Raises:
        ScanError: not a volume, several volumes, or more voxels than a scanner makes.
    """
    shown = listed_sides(dims)
    if any(n < 1 for n in dims):
        raise ScanError(name, f"bad dimensions: {shown}")
    kept = list(dims)
    while len(kept) > 3 and kept[-1] == 1:
        kept.pop()
    if len(kept) > 3:
        raise ScanError(
            name, f"{len(kept)}D image: {shown} holds {math.prod(kept[3:])} volumes; split it into 3D files"
        )
    if len(kept) < 3:
        raise ScanError(name, f"{len(kept)}D image: {shown} is not a volume")
    if min(kept) < MIN_SIDE:
        raise ScanError(name, f"too thin: {shown} voxels, at least {MIN_SIDE} along each axis are needed")
    voxels = math.prod(kept)
    if voxels > MAX_VOXELS:
        memory = f" ({voxels * 4 / 1e9:,.0f} GB in memory)" if voxels < 2**63 else ""
        raise ScanError(name, f"too large: the header states {shown} voxels{memory}")
    notes = ("4D with one volume, taken as 3D",) if len(dims) > 3 else ()
    return (kept[0], kept[1], kept[2]), notes


def check_space(affine: NDArray[Any], name: str) -> Affine:
    """The affine, checked as `geometry.check_affine` does.

    Raises:
        ScanError: not finite, singular, or a voxel size out of range.
    """
    try:
        return check_affine(affine, "")
    except UserError as error:
        raise ScanError(name, f"bad affine: {str(error).removeprefix(': ').removeprefix('affine ')}") from None


def unoriented_affine(
    spacing_mm: NDArray[Any], shape: tuple[int, int, int], unoriented: Unoriented, name: str, why: str
) -> tuple[Affine, tuple[str, ...]]:
    """Affine of a volume without orientation: centred at the origin, axes as the user states; and a note.

    Raises:
        ScanError: the user stated none: left and right are unknown.
    """
    if unoriented == "refuse":
        raise ScanError(name, f"no orientation: {why}, left and right are unknown; give --unoriented las or ras")
    steps = np.asarray(spacing_mm, np.float64) * [-1 if unoriented == "las" else 1, 1, 1]
    affine = np.eye(4)
    affine[:3, :3] = np.diag(steps)
    affine[:3, 3] = -steps * (np.asarray(shape) - 1) / 2
    return check_space(affine, name), (f"orientation not stated, taken as {unoriented.upper()}",)


def check_voxels(array: NDArray[Any], name: str) -> None:
    """Refuse voxels that no network can be trained on.

    Raises:
        ScanError: NaN, infinite, or all the same.
    """
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        bad = int((~np.isfinite(array)).sum())
        raise ScanError(
            name, f"NaN or infinite voxels: {bad:,} of {array.size:,}; replace them by the background's value"
        )
    if low == high:
        raise ScanError(name, f"constant voxels: all are {low:g}")


def scaled(array: NDArray[Any], slope: float, intercept: float, name: str) -> NDArray[Any]:
    """Apply `value = stored * slope + intercept`.

    Integers stay integers (int16 or int32) where slope and intercept are integers; everything else becomes float32.

    Raises:
        ScanError: values beyond the range of float32.
    """
    whole = array.dtype.kind in "iub" and float(slope).is_integer() and float(intercept).is_integer()
    if whole:
        ends = [int(array.min()) * int(slope) + int(intercept), int(array.max()) * int(slope) + int(intercept)]
        for dtype in (np.int16, np.int32):
            if min(ends) >= np.iinfo(dtype).min and max(ends) <= np.iinfo(dtype).max:
                if array.dtype == np.dtype(dtype) and slope == 1 and intercept == 0:
                    return array
                wide = array.astype(np.int64 if dtype is np.int32 else np.int32)
                return (wide * int(slope) + int(intercept)).astype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if slope == 1 and intercept == 0:
            values = array.astype(np.float32)
        else:
            values = (array.astype(np.float64) * slope + intercept).astype(np.float32)
    if array.dtype.kind != "f" and not np.isfinite(values).all():
        raise ScanError(name, f"scaling out of range: slope {slope:g}, intercept {intercept:g}")
    return values


def voxels_checksum(array: NDArray[Any], affine: NDArray[np.float64] | None = None) -> str:
    """SHA-256 of type, shape and voxels, and of the affine rounded to 1e-6 mm where it is given."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    if affine is not None:
        digest.update((np.round(affine, 6) + 0.0).tobytes())
    return digest.hexdigest()


def content_checksum(array: NDArray[Any]) -> str:
    """SHA-256 of a scan's voxels with axes closest to R, A, S, for any data type or file format."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind == "f":
        whole = np.abs(array).max() < 2**24 and bool((array == np.rint(array)).all())
        array = array.astype(np.int32) if whole else array
    if array.dtype.kind != "f":
        small = array.min() >= -32768 and array.max() <= 32767
        array = array.astype("<i2" if small else "<i4", copy=False)
    else:
        array = array.astype("<f4", copy=False)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(array.data)
    return digest.hexdigest()
