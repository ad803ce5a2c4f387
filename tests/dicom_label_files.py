"""Writes DICOM segmentations and structure sets that belong to a series, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from dicom_files import LPS, PLANTED
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.utils import pack_bits
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"


def in_frame(folder: Path) -> str:
    """Give all slices of a series one coordinate system; returns its identifier."""
    frame = generate_uid()
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.FrameOfReferenceUID = frame
        dataset.save_as(path, enforce_file_format=True)
    return frame


def _base(kind: str, modality: str, folder: Path) -> tuple[Dataset, Dataset]:
    """A dataset that names nothing yet, and one of the series' slices."""
    one = pydicom.dcmread(min(folder.iterdir()))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), modality
    dataset.PatientName, dataset.PatientID = PLANTED[:2]
    return dataset, one


def _item(**tags: Any) -> Dataset:
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, Sequence(value) if isinstance(value, list) and isinstance(value[0], Dataset) else value)
    return item


def write_seg(
    path: Path,
    folder: Path,
    structures: Mapping[str, NDArray[np.bool_]],
    affine: NDArray[Any],
    *,
    kind: str = "BINARY",
    change: Any = None,
) -> Path:
    """Write masks (i, j, k) as a segmentation of the series in `folder`: only slices that hold something, shuffled."""
    dataset, one = _base(SEG, "SEG", folder)
    dataset.ReferencedSeriesSequence = Sequence([_item(SeriesInstanceUID=one.SeriesInstanceUID)])
    if "FrameOfReferenceUID" in one:
        dataset.FrameOfReferenceUID = one.FrameOfReferenceUID
    dataset.SegmentationType = kind
    dataset.SegmentSequence = Sequence(
        [_item(SegmentNumber=n, SegmentLabel=name) for n, name in enumerate(structures, start=1)]
    )
    dataset.SharedFunctionalGroupsSequence = Sequence(
        [
            _item(
                PixelMeasuresSequence=[_item(PixelSpacing=one.PixelSpacing)],
                PlaneOrientationSequence=[_item(ImageOrientationPatient=one.ImageOrientationPatient)],
            )
        ]
    )
    planes = [(n, k) for n, mask in enumerate(structures.values(), start=1) for k in np.flatnonzero(mask.any((0, 1)))]
    frames, pixels = [], []
    for place in np.random.default_rng(0).permutation(len(planes)):
        number, k = planes[place]
        position = [round(float(v), 6) for v in (LPS @ affine @ [0, 0, int(k), 1])[:3]]
        frames.append(
            _item(
                PlanePositionSequence=[_item(ImagePositionPatient=position)],
                SegmentIdentificationSequence=[_item(ReferencedSegmentNumber=int(number))],
            )
        )
        pixels.append(list(structures.values())[number - 1][:, :, k].T)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    stack = np.stack(pixels).astype(np.uint8)
    if kind == "LABELMAP":  # the values themselves are the segments' numbers
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = f"{SEG[:-1]}7"
        for frame, image in zip(frames, stack, strict=True):
            image *= frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            del frame.SegmentIdentificationSequence
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = stack.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 1 if kind == "BINARY" else 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    if kind == "FRACTIONAL":
        dataset.MaximumFractionalValue = 200
        stack = stack * 180 + 20  # 20 of 200 is outside
    dataset.PixelData = pack_bits(stack.ravel()) if bits == 1 else stack.tobytes() + b"\0" * (stack.size % 2)
    if change is not None:
        change(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def outlines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed contours (n, 2) of one slice, half-way between pixels inside and outside."""
    padded = np.pad(mask.astype(float), 1)
    lines = Figure().subplots().contour(padded.T, levels=[0.5]).allsegs[0]
    return [line[:-1] - 1 for line in lines]


def write_rtstruct(
    path: Path,
    folder: Path,
    structures: Mapping[str, NDArray[np.bool_]],
    affine: NDArray[Any],
    *,
    every: int = 1,
    names_series: bool = True,
    change: Any = None,
) -> Path:
    """Write masks (i, j, k) as contours on every `every`-th slice of the series in `folder`."""
    dataset, one = _base(RTSTRUCT, "RTSTRUCT", folder)
    frame = one.get("FrameOfReferenceUID") or "1.2.3"
    series = _item(SeriesInstanceUID=one.SeriesInstanceUID)
    reference = _item(FrameOfReferenceUID=frame)
    if names_series:
        reference.RTReferencedStudySequence = Sequence([_item(RTReferencedSeriesSequence=[series])])
    dataset.ReferencedFrameOfReferenceSequence = Sequence([reference])
    sets, rois = [], []
    for number, (name, mask) in enumerate(structures.items(), start=11):
        sets.append(_item(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=frame))
        contours = []
        for k in np.flatnonzero(mask.any((0, 1)))[::every]:
            for line in outlines(mask[:, :, k]):
                index = np.column_stack([line, np.full(len(line), k), np.ones(len(line))])
                points = (index @ (LPS @ affine).T)[:, :3]
                contours.append(
                    _item(
                        ContourGeometricType="CLOSED_PLANAR",
                        NumberOfContourPoints=len(points),
                        ContourData=[f"{v:.4f}" for v in points.ravel()],
                    )
                )
        rois.append(_item(ReferencedROINumber=number, ContourSequence=contours))
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Sequence(sets), Sequence(rois)
    if change is not None:
        change(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
