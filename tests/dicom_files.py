"""Writes DICOM series and enhanced objects from arrays, with planted identifiers, for tests."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
PLANTED = ("DOE^JANE", "PID-4711", "19530317", "1.2.999.4711", "StMaryHospital", "ACC0815")


def _base(kind: str, series: str, number: int, modality: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.SOPClassUID, dataset.SeriesInstanceUID, dataset.SeriesNumber = kind, series, number
    dataset.Modality = modality
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = PLANTED[:3]
    dataset.StudyInstanceUID, dataset.InstitutionName, dataset.AccessionNumber = PLANTED[3:]
    dataset.StudyDate = datetime.date(1953, 3, 17).strftime("%Y%m%d")
    dataset.SeriesDescription = "for DOE^JANE"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    return dataset


def _place(affine: NDArray[Any]) -> tuple[list[float], list[float], NDArray[Any]]:
    """Orientation (6,), pixel spacing (rows, columns) and the LPS affine."""
    lps = LPS @ affine
    columns, rows = lps[:3, 0], lps[:3, 1]
    spacing = [float(np.linalg.norm(rows)), float(np.linalg.norm(columns))]
    axes = [*(columns / spacing[1]), *(rows / spacing[0])]
    return [round(float(v), 9) for v in axes], spacing, lps


def write_series(
    folder: Path,
    array: NDArray[np.int16],
    affine: NDArray[Any],
    *,
    number: int = 3,
    series: str | None = None,
    modality: str = "CT",
    name: str = "{:03d}.dcm",
    skip: tuple[int, ...] = (),
    intercept: float = -1024,
    slope: float = 1,
    change: Any = None,
    prefix: str = "1.2.826.0.1.3680043.8.498.",
) -> list[Path]:
    """Write an (i, j, k) array of HU as one file a slice, in an order that names do not tell.

    Args:
        skip: slices that are left out.
        change: called with (dataset, slice) before each file is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    axes, spacing, lps = _place(affine)
    series = series or generate_uid(prefix=prefix)
    order = np.random.default_rng(array.shape[2]).permutation(array.shape[2])
    paths = []
    for place, k in enumerate(order):
        if int(k) in skip:
            continue
        dataset = _base(CT, series, number, modality)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=prefix)
        dataset.ImagePositionPatient = [round(float(v), 6) for v in (lps @ [0, 0, int(k), 1])[:3]]
        dataset.ImageOrientationPatient, dataset.PixelSpacing = axes, spacing
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        pixels = np.rint((array[:, :, k].T - intercept) / slope).astype(np.uint16)
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
        if change is not None:
            change(dataset, int(k))
        paths.append(folder / name.format(place))
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_enhanced(path: Path, array: NDArray[np.int16], affine: NDArray[Any]) -> Path:
    """Write an (i, j, k) array of HU as one enhanced multi-frame object, its frames in a random order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    axes, spacing, lps = _place(affine)
    dataset = _base(ENHANCED_CT, generate_uid(), 5, "CT")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    measures, orientation, values, shared = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, orientation.ImageOrientationPatient = spacing, axes
    values.RescaleSlope, values.RescaleIntercept = 1, -1024
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    shared.PixelValueTransformationSequence = Sequence([values])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    order = np.random.default_rng(1).permutation(array.shape[2])
    frames = []
    for k in order:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [round(float(v), 6) for v in (lps @ [0, 0, int(k), 1])[:3]]
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    pixels = np.stack([array[:, :, k].T + 1024 for k in order]).astype(np.uint16)
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path
