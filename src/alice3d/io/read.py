"""Opens scans of every format, header first, with checks; nothing else in the package opens a scan."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.errors import UserError
from alice3d.io import metaimage, nifti, nrrd
from alice3d.io.dicom import series as dicom_series
from alice3d.io.dicom.detect import holds_dicom, is_dicom
from alice3d.io.dicom.sorting import group
from alice3d.io.folders import is_plain, walk
from alice3d.io.volume import Header, ScanError, Unoriented, Volume, check_voxels, damaged

EXTENSIONS: dict[str, Any] = {
    **dict.fromkeys((".nii", ".nii.gz", ".hdr", ".hdr.gz", ".img", ".img.gz"), nifti),
    **dict.fromkeys((".nrrd", ".seg.nrrd", ".nhdr", ".seg.nhdr"), nrrd),
    **dict.fromkeys((".mha", ".mhd"), metaimage),
}
"""File extension to the module that reads it, which has `read_header(path, unoriented)` and `read_voxels(header)`."""
DATA_FILES = (".img", ".img.gz")
"""Data files of pairs: read through their header."""
DICOM_NAMES = (".img", ".hdr")
"""Extensions of pairs that scanners give to DICOM files as well."""


def extension_of(path: Path) -> str | None:
    """The supported extension of a file's name, lower case; None where no reader supports it."""
    name = path.name.lower()
    return next(
        (extension for extension in sorted(EXTENSIONS, key=len, reverse=True) if name.endswith(extension)), None
    )


def reader_of(path: Path) -> str | None:
    """The extension whose reader opens a file; None for DICOM and others, also for DICOM named .img or .hdr."""
    extension = extension_of(path)
    return None if extension in DICOM_NAMES and holds_dicom(path) else extension


def case_id(path: Path) -> str:
    """File name without its extension; accents in composed Unicode form on every file system."""
    extension = extension_of(path)
    return unicodedata.normalize("NFC", path.name[: -len(extension)] if extension else path.name)


def read_header(
    path: str | Path,
    *,
    files: Sequence[Path] | None = None,
    unoriented: Unoriented = "refuse",
    volume: str | None = None,
) -> Header:
    """Shape, affine and type of a scan, without reading its voxels.

    Args:
        path: the file, or a folder that holds one DICOM series.
        files: of a DICOM series, where they are known; `path` is then only its name.
        unoriented: orientation of a file that gives none; `refuse` raises.
        volume: of a file with several volumes: `first`, `mean`, or a number from 0; "" and None raise, None with advice
            for a call that has no `--volume`.

    Raises:
        ScanError: missing, unreadable, of unknown format, damaged, not a single volume, or without a position.
    """
    path = Path(path)
    try:
        extension = reader_of(path)
        if files is None and not path.exists():
            raise FileNotFoundError
        if files is not None or path.is_dir() or (extension is None and is_dicom(path)):
            return dicom_series.read_series(files or _series_files(path), path.name, path)
        if not is_plain(path):
            raise ScanError(path.name, "not a file: a pipe, a socket or a device")
        if extension is None:
            raise ScanError(path.name, f"unknown format: supported are {', '.join(EXTENSIONS)}, and DICOM")
        header: Header = EXTENSIONS[extension].read_header(path, unoriented=unoriented, volume=volume)
    except FileNotFoundError:
        raise ScanError(path.name, "no such file") from None
    except OSError as error:
        raise ScanError(path.name, f"cannot be read: {error.strerror or type(error).__name__}") from None
    except UserError:
        raise
    except Exception as error:  # damaged files raise nearly any exception
        raise ScanError(path.name, damaged(error)) from None
    return header


def _series_files(path: Path) -> list[Path]:
    """Files of the one series that a folder holds, or the file itself."""
    if not path.is_dir():
        return [path]
    series = group(file for file in walk(path) if reader_of(file) is None and is_dicom(file)).series
    scans = [one for one in series if not one.fault]
    if len(scans) == 1:
        return scans[0].files
    if not scans:
        raise ScanError(path.name, f"no scan in this folder{f': {series[0].fault}' if series else ''}")
    raise ScanError(path.name, f"{len(scans)} series in one folder; give the folder of one, or prepare them first")


def read_voxels(header: Header) -> NDArray[Any]:
    """The voxel values (i, j, k) of a scan whose header was read: int16, int32 or float32, in the scanner's units.

    Raises:
        ScanError: truncated, damaged, or too large for memory.
    """
    name = header.path.name
    reader = dicom_series if header.format == "dicom" else EXTENSIONS[extension_of(header.path) or ".nii"]
    try:
        array: NDArray[Any] = reader.read_voxels(header)
    except MemoryError:
        size = np.prod(header.shape) * header.dtype.itemsize / 1e9
        raise ScanError(name, f"too large: its {size:.1f} GB do not fit into memory") from None
    except OSError as error:
        raise ScanError(name, f"cannot be read: {error.strerror or type(error).__name__}") from None
    except UserError:
        raise
    except Exception as error:
        raise ScanError(name, damaged(error)) from None
    return array


def read_scan(
    path: str | Path,
    *,
    files: Sequence[Path] | None = None,
    unoriented: Unoriented = "refuse",
    volume: str | None = None,
) -> Volume:
    """Read a scan for a network; the arguments are those of `read_header`.

    Raises:
        ScanError: as `read_header` and `read_voxels`; also NaN, infinite or constant voxels.
    """
    header = read_header(path, files=files, unoriented=unoriented, volume=volume)
    check_scan(header)
    array = read_voxels(header)
    check_voxels(array, header.path.name)
    return header.volume(array)


def check_scan(header: Header) -> None:
    """Refuse a segmentation where a scan is expected.

    Raises:
        ScanError: it is one of 3D Slicer.
    """
    if header.details.get("segments"):
        raise ScanError(header.path.name, "a segmentation of 3D Slicer, not a scan; give it as the label of its scan")


def read_label(path: str | Path, *, unoriented: Unoriented = "refuse") -> Volume:
    """Read a label map: integers from 0, as uint8 or int16 (i, j, k).

    Raises:
        ScanError: as `read_scan`, or values that are not label values. An empty label map is accepted.
    """
    return read_label_voxels(read_header(path, unoriented=unoriented))


def read_label_voxels(header: Header) -> Volume:
    """The label map whose header was read; see `read_label`."""
    return header.volume(label_values(read_voxels(header), header.path.name))


def label_values(array: NDArray[Any], name: str) -> NDArray[Any]:
    """The whole numbers of a label map, as uint8 or int16.

    Raises:
        ScanError: NaN, fractions, negative, or above 32,767.
    """
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ScanError(name, "NaN or infinite: a label map holds integers")
    if array.dtype.kind == "f":
        whole = np.rint(array)
        if not (np.abs(array - whole) < 1e-3).all():
            broken = array[np.abs(array - whole) >= 1e-3][0]
            raise ScanError(name, f"values are not integers: {broken:g} occurs; was it resampled by interpolation?")
        array = whole
    if low < -0.5 or high > 32767:
        raise ScanError(name, f"values out of range: {low:g} to {high:g}, 0 to 32,767 are possible")
    return array.astype(np.uint8 if high < 256 else np.int16)


def is_data_file(path: Path, extension: str) -> bool:
    """Whether a file is the .img of a pair whose .hdr exists."""
    if extension not in DATA_FILES:
        return False
    stem = path.name[: -len(extension)]
    return any(os.path.exists(path.with_name(stem + other)) for other in (".hdr", ".hdr.gz", ".HDR"))
