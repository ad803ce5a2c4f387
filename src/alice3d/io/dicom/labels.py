"""DICOM label objects: which series a segmentation (SEG) or structure set (RTSTRUCT) is of, and its structures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom

from alice3d.io.dicom.detect import starts_like_dicom
from alice3d.io.dicom.identity import patient_key
from alice3d.io.dicom.series import kind_of, silent
from alice3d.io.folders import structure_name
from alice3d.io.volume import ScanError

SEG = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, Label Map Segmentation Storage."""
LABEL_MAP = SEG[1]
BACKGROUND_CODE = "125040"
"""Of DICOM's own coding scheme."""
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
TAGS = [
    "SOPClassUID", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "ReferencedSeriesSequence",
    "ReferencedFrameOfReferenceSequence", "StructureSetROISequence", "SegmentSequence", "SegmentationType",
    "PixelPaddingValue",
]  # fmt: skip


@dataclass(frozen=True)
class LabelObject:
    """Header of a label object.

    Attributes:
        path: the file.
        series: identifiers of the series that it belongs to; never shown.
        frames: identifiers of their coordinate systems; never shown.
        names: number to name of its structures, in the object's order.
        owner: digest of its PatientID, "" where there is none.
        study: identifier of its study; never shown.
        segments: it is a segmentation, not a structure set.
    """

    path: Path
    series: frozenset[str] = field(repr=False)
    frames: frozenset[str] = field(repr=False)
    names: dict[int, str]
    owner: str = field(default="", repr=False)
    study: str = field(default="", repr=False)
    segments: bool = True

    def belongs_to(self, series: str, frame: str, owner: str = "") -> bool:
        """Whether it references a series of the same patient; by the coordinate system where it references none."""
        if self.owner and owner and self.owner != owner:
            return False
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
        if not starts_like_dicom(file.read(132)):
            return None
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS, force=True)
        kind = kind_of(dataset)
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
            if not _is_background(item, dataset, kind):
                names[int(item.SegmentNumber)] = str(item.get("SegmentLabel") or "")
        for item in dataset.get("StructureSetROISequence") or ():
            names[int(item.ROINumber)] = str(item.get("ROIName") or "")
    except OSError:
        raise
    except Exception as error:  # damaged files raise nearly any exception, and its text may hold tags
        raise ScanError(path.name, f"damaged DICOM file: {type(error).__name__} while its header was read") from None
    named = {number: structure_name(name) or f"structure_{number}" for number, name in sorted(names.items())}
    study = str(dataset.get("StudyInstanceUID") or "")
    references = frozenset(series) - {""}, frozenset(frames) - {""}
    return LabelObject(path, *references, named, patient_key(dataset), study, kind != RTSTRUCT)


def _is_background(segment: Any, dataset: Any, kind: str) -> bool:
    """Whether a segment stands for the voxels outside every structure, which label-map segmentations list (DICOM
    Supplement 243): number 0, the padding value, or the code or name of background."""
    codes = [str(code.get("CodeValue")) for code in segment.get("SegmentedPropertyTypeCodeSequence") or ()]
    if BACKGROUND_CODE in codes:
        return True
    if kind != LABEL_MAP and str(dataset.get("SegmentationType") or "") != "LABELMAP":
        return False
    padding = dataset.get("PixelPaddingValue")
    number = int(segment.SegmentNumber)
    named = structure_name(str(segment.get("SegmentLabel") or "")).casefold() == "background"
    return number == 0 or named or (padding is not None and number == int(padding))
