"""Reads a DICOM series: slices ordered by position, never by file name; enhanced multi-frame files too."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import config
from pydicom.errors import InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder

from alice3d.io.dicom.copies import Contents
from alice3d.io.dicom.identity import TAGS as IDENTITY
from alice3d.io.dicom.identity import patient_key
from alice3d.io.dicom.stack import Slice, stacked
from alice3d.io.volume import Header, ScanError, check_shape, check_space, scaled

MOSAIC_TAGS = (0x00651050, 0x00651051)
"""Of United Imaging: the number of slices in a grid, and their positions."""
TAGS: list[Any] = [
    *IDENTITY, *MOSAIC_TAGS, "SOPClassUID", "ImageType", "Rows", "Columns",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "BitsAllocated", "BitsStored",
    "PixelRepresentation", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
"""All tags that are read of a slice before its pixels; those of the patient only tell scans apart, see `identity`."""
UNKNOWN_IMAGE = "image of an unknown kind"
COLOURS = {"MONOCHROME1", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"}
GE_BIG_ENDIAN = "1.2.840.113619.5.2"
"""GE's own: implicit little endian with big-endian pixels."""


@contextmanager
def silent() -> Iterator[None]:
    """Keep pydicom from warning and logging: its messages hold the values of tags."""
    logger = logging.getLogger("pydicom")
    before, mode = logger.disabled, config.settings.reading_validation_mode
    logger.disabled, config.settings.reading_validation_mode = True, config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled, config.settings.reading_validation_mode = before, mode


def open_dataset(path: Path, *, pixels: bool = False, force: bool = False) -> Any:
    """A DICOM file with the tags of `TAGS`, or with its pixels.

    Raises:
        ScanError: not DICOM, or damaged; the library's own messages are not shown: they may hold tags.
    """
    try:
        if pixels:
            return pydicom.dcmread(path, force=force)
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS, force=force)
    except InvalidDicomError:
        raise ScanError(path.name, "not a DICOM file: no DICM prefix") from None
    except OSError:
        raise
    except Exception as error:  # damaged files raise nearly any exception
        raise ScanError(path.name, f"damaged DICOM file: {type(error).__name__} while its header was read") from None


@silent()
def read_series(files: Sequence[Path], name: str, path: Path) -> Header:
    """Header of one series.

    Args:
        files: of the series, in any order.
        name: for messages.
        path: the folder, or the file of a multi-frame object.

    Raises:
        ScanError: slices missing, duplicate, at unequal gaps or of different kinds; no position; colours.
    """
    slices: list[Slice] = []
    said = {"modality": "", "series": "", "frame": "", "owner": ""}
    for file in sorted(files):
        dataset = open_dataset(file, force=True)
        _check_kind(dataset, name)
        for key, tag in (("modality", "Modality"), ("series", "SeriesInstanceUID"), ("frame", "FrameOfReferenceUID")):
            said[key] = said[key] or _text(dataset, tag)
        said["owner"] = said["owner"] or patient_key(dataset)
        slices += slices_of(dataset, file, name)
    contents = Contents(name, lambda file: pixels_of(open_dataset(file, pixels=True, force=True), name))
    ordered, affine, notes = stacked(slices, name, contents)
    rows, columns = ordered[0].shape
    shape, _ = check_shape((columns, rows, len(ordered)), name)
    details = {"slices": ordered, **said}
    return Header(path, "dicom", shape, check_space(affine, name), np.dtype(np.int16), tuple(notes), details)


def kind_of(dataset: Any) -> str:
    """SOPClassUID; else that of the file's meta information, where a DICOMDIR and some anonymisers leave it alone; else
    `UNKNOWN_IMAGE` where there are rows at a position; else ""."""
    kind = _text(dataset, "SOPClassUID") or _text(getattr(dataset, "file_meta", {}), "MediaStorageSOPClassUID")
    located = "ImagePositionPatient" in dataset or "PerFrameFunctionalGroupsSequence" in dataset
    return kind or (UNKNOWN_IMAGE if dataset.get("Rows") and located else "")


def _check_kind(dataset: Any, name: str) -> None:
    if not kind_of(dataset):
        raise ScanError(name, "not a DICOM file: neither DICM prefix nor SOPClassUID")
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise ScanError(name, "no image: a DICOM object without pixels")
    colours = _text(dataset, "PhotometricInterpretation")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or colours not in ("MONOCHROME2", ""):
        kind = colours if colours in COLOURS else "colours"  # a damaged tag may hold anything
        raise ScanError(name, f"unsupported voxel type: {kind}; one value per voxel (MONOCHROME2) is needed")
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if syntax == GE_BIG_ENDIAN:
        raise ScanError(
            name, "unsupported transfer syntax: GE private, big endian; convert it to explicit little endian"
        )
    if syntax is not None and (syntax.is_private or not syntax.is_transfer_syntax):
        raise ScanError(name, "unsupported transfer syntax: private or unknown; convert it, or copy it again")
    if syntax is not None and syntax.is_compressed and syntax.is_encapsulated:
        try:
            available = get_decoder(syntax).is_available
        except NotImplementedError:
            available = False
        if not available:
            raise ScanError(name, f"no decoder for {syntax.name}; pip install 'alice3d[dicom]' or decompress it")


def _text(dataset: Any, tag: str) -> str:
    return str(dataset.get(tag) or "").strip()


def numbers_of(dataset: Any, tag: str, count: int) -> tuple[float, ...] | None:
    """Finite numbers of a tag; None where it is missing or damaged."""
    try:
        values = tuple(float(value) for value in dataset.get(tag) or ())
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _number(dataset: Any, tag: str, default: float) -> float:
    value = dataset.get(tag)
    try:
        return default if value is None else float(value)
    except (TypeError, ValueError):
        return default


def slices_of(dataset: Any, file: Path, name: str) -> list[Slice]:
    """The images of one file: one, or the frames of an enhanced object.

    Raises:
        ScanError: an image without a position.
    """
    frames = int(_number(dataset, "NumberOfFrames", 1))
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    single = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if frames < 1:
        raise ScanError(name, f"bad header: NumberOfFrames is {frames}")
    if frames > 1 and len(single) != frames:
        raise ScanError(name, f"no position: {frames} frames without positions")
    found = []
    for frame in range(frames):
        groups = [single[frame] if single else None, shared]
        position = numbers_of(_group(groups, "PlanePositionSequence", dataset), "ImagePositionPatient", 3)
        axes = numbers_of(_group(groups, "PlaneOrientationSequence", dataset), "ImageOrientationPatient", 6)
        spacing = numbers_of(_group(groups, "PixelMeasuresSequence", dataset), "PixelSpacing", 2)
        for value, tag in (
            (position, "ImagePositionPatient"),
            (axes, "ImageOrientationPatient"),
            (spacing, "PixelSpacing"),
        ):
            if value is None:
                raise ScanError(name, f"no position: {tag} is missing or damaged")
        assert position is not None
        assert axes is not None
        assert spacing is not None
        if min(spacing) <= 0:
            raise ScanError(name, f"bad spacing: PixelSpacing is {spacing[0]:g} x {spacing[1]:g} mm")
        values = _group(groups, "PixelValueTransformationSequence", dataset)
        slope, intercept = _number(values, "RescaleSlope", 1.0), _number(values, "RescaleIntercept", 0.0)
        found.append(
            Slice(
                file,
                frame,
                position,
                axes,
                (spacing[0], spacing[1]),
                (int(dataset.Rows), int(dataset.Columns)),
                slope or 1.0,
                intercept,
            )
        )
    return found


def _group(groups: list[Any], sequence: str, dataset: Any) -> Any:
    """The functional group of a frame, else the shared one, else the file itself."""
    for group in groups:
        items = group.get(sequence) if group is not None else None
        if items:
            return items[0]
    return dataset


@silent()
def read_voxels(header: Header) -> NDArray[Any]:
    """The voxel values (columns, rows, slices), rescaled slice by slice.

    Raises:
        ScanError: pixels that cannot be decoded.
    """
    slices: list[Slice] = header.details["slices"]
    name = header.path.name
    same = len({(piece.slope, piece.intercept) for piece in slices}) == 1
    volume: NDArray[Any] | None = None
    opened: tuple[Path | None, Any] = (None, None)
    for place, piece in enumerate(slices):
        if opened[0] != piece.file:
            opened = (piece.file, pixels_of(open_dataset(piece.file, pixels=True, force=True), name))
        pixels = opened[1]
        image = pixels[piece.frame] if pixels.ndim == 3 else pixels
        if image.shape != piece.shape:
            raise ScanError(name, "damaged DICOM file: pixels do not fit Rows and Columns")
        values = image if same else scaled(image, piece.slope, piece.intercept, name)
        if volume is None:
            volume = np.empty(header.shape, values.dtype, order="F")
        elif volume.dtype != values.dtype:
            volume = volume.astype(np.promote_types(volume.dtype, values.dtype), order="F")
        volume[:, :, place] = values.T
    assert volume is not None
    return scaled(volume, slices[0].slope, slices[0].intercept, name) if same else volume


def pixels_of(dataset: Any, name: str) -> NDArray[Any]:
    """The stored values (rows, columns), or (frames, rows, columns).

    Raises:
        ScanError: they cannot be decoded.
    """
    try:
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        array: NDArray[Any] = dataset.pixel_array
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly any exception, and its text may hold tags
        raise ScanError(name, f"truncated or damaged pixels: {type(error).__name__} while decoding") from None
    return array
