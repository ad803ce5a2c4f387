"""Sorts files into DICOM series, and finds those that are not scans."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydicom.uid import UID

from alice3d.io.dicom.labels import RTSTRUCT, SEG, LabelObject, read_object
from alice3d.io.dicom.series import numbers_of, open_dataset, silent
from alice3d.io.folders import clean, is_plain, walk
from alice3d.io.volume import ScanError
from alice3d.io.volume import damaged as damaged_reason

EXTENSIONS = (".dcm", ".dicom", ".ima")
NOT_IMAGES = {"SR", "PR", "KO", "REG", "RTPLAN", "RTSTRUCT", "RTDOSE", "RTRECORD", "SEG", "DOC", "ECG", "AU", "FID"}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIRECTORY = "1.2.840.10008.1.3.10"
REFORMATS = {"MPR", "REFORMATTED", "PROJECTION IMAGE", "CSA MPR", "MIP"}
AXIAL = 0.8
"""Component of the slice normal along the body's axis from which slices count as axial."""


@dataclass
class Series:
    """Files that belong together.

    Attributes:
        files: in no order.
        number: SeriesNumber, "" where there is none.
        modality: such as CT.
        uid, frame: identifiers of the series and of its coordinate system, to find its labels; never shown.
        fault: why it is not a scan; "" where it is one.
        part: "localiser" for the localisers of a series that is a scan, else "".
        patient: PatientID; never shown or written.
    """

    files: list[Path] = field(default_factory=list)
    number: str = ""
    modality: str = ""
    uid: str = ""
    frame: str = ""
    fault: str = ""
    part: str = ""
    patient: str = field(default="", repr=False)

    @property
    def folder(self) -> Path:
        """Folder of its first file."""
        return min(self.files).parent


class Damaged(NamedTuple):
    """A file that cannot be sorted.

    Attributes:
        path: the file.
        reason: what is wrong with it.
        series: identifier of its series, "" where unknown; never shown.
        slice_like: it may be a slice of a scan.
    """

    path: Path
    reason: str
    series: str = ""
    slice_like: bool = True


class Grouped(NamedTuple):
    """Files, sorted.

    Attributes:
        series: by folder and number.
        damaged: files that cannot be read, with reasons.
        others: how many objects without images there are, by modality.
        labels: segmentations and structure sets, in the order of their files.
    """

    series: list[Series]
    damaged: list[tuple[Path, str]]
    others: Counter[str]
    labels: list[LabelObject]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its DICM prefix, or by its name where the prefix is missing.

    A file that cannot be read may be one: it is reported, not skipped.
    """
    named = path.name.lower().endswith(EXTENSIONS)
    if not is_plain(path):
        return False
    try:
        with path.open("rb") as file:
            file.seek(128)
            magic = file.read(4)
    except FileNotFoundError:  # a dangling link
        return named
    except OSError:
        return True
    return magic == b"DICM" or named


@silent()
def patient_of(path: Path) -> str:
    """PatientID of a DICOM file, or of the first one in a folder; "" where there is none. Never shown or written."""
    for file in walk(path) if path.is_dir() else [path]:
        with contextlib.suppress(Exception):  # a damaged tag raises nearly any exception; told when the scan is read
            if is_dicom(file):
                return str(open_dataset(file, force=True).get("PatientID") or "").strip()
    return ""


@silent()
def group(files: Iterable[Path]) -> Grouped:
    """Sort DICOM files by series; a series that a damaged file may belong to gets a fault."""
    series: dict[tuple[str, bool], Series] = {}
    damaged: list[Damaged] = []
    others: Counter[str] = Counter()
    labels: list[LabelObject] = []
    for path in files:
        dataset: Any = None
        try:
            dataset = open_dataset(path, force=True)
            kind = _kind(dataset)
            modality = str(dataset.get("Modality") or "")
            label = read_object(path) if kind in (*SEG, RTSTRUCT) else None
            if label is not None:
                labels.append(label)
            elif not kind:
                empty = path.stat().st_size == 0
                reason = "empty file" if empty else "not a DICOM file: no DICM prefix"
                damaged.append(Damaged(path, reason, *_of_slice(dataset)))
            elif modality not in NOT_IMAGES and not dataset.get("Rows") and UID(kind).name.endswith("Image Storage"):
                damaged.append(Damaged(path, "damaged file: an image without rows", *_of_slice(dataset)))
            elif kind != DIRECTORY and (modality in NOT_IMAGES or not dataset.get("Rows")):
                others[modality if modality in NOT_IMAGES else "other"] += 1  # a damaged tag may hold anything
            elif kind != DIRECTORY:
                _add(series, dataset, path, kind, modality)
        except ScanError as error:
            damaged.append(Damaged(path, error.reason, *_of_slice(dataset)))
        except OSError as error:
            damaged.append(Damaged(path, f"cannot be read: {error.strerror or type(error).__name__}"))
        except Exception as error:  # a damaged tag raises nearly any exception, and its text may hold the value
            damaged.append(Damaged(path, damaged_reason(error), *_of_slice(dataset)))
    _fault_lost(series.values(), damaged)
    ordered = sorted(series.values(), key=lambda s: (s.folder, s.number.zfill(8), s.part, min(s.files)))
    return Grouped(ordered, [(file.path, file.reason) for file in damaged], others, labels)


def _kind(dataset: Any) -> str:
    """SOPClassUID; a DICOMDIR gives it in the file's meta information only."""
    preamble = str(dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    return str(dataset.get("SOPClassUID") or (preamble if preamble == DIRECTORY else ""))


def _add(series: dict[tuple[str, bool], Series], dataset: Any, path: Path, kind: str, modality: str) -> None:
    """Add an image to its series; localisers among the slices of a scan are kept separate."""
    uid, frame = str(dataset.get("SeriesInstanceUID") or ""), str(dataset.get("FrameOfReferenceUID") or "")
    number, fault = str(dataset.get("SeriesNumber") or "").strip(), _fault(dataset, kind)
    overview = fault.startswith("localiser")
    key = uid or str(path.parent)
    one = series.setdefault((key, overview), Series())
    one.files.append(path)
    one.number, one.modality = one.number or number, one.modality or modality
    one.patient = one.patient or str(dataset.get("PatientID") or "").strip()
    one.uid, one.frame, one.fault = one.uid or uid, one.frame or frame, one.fault or fault
    if (key, not overview) in series:
        series[key, True].part = "localiser"


def _fault_lost(series: Iterable[Series], damaged: list[Damaged]) -> None:
    """Set a fault for each series that may lack a damaged file: its own series, or else those in the same folder."""
    of_series = {file.series: file for file in damaged if file.slice_like and file.series}
    beside = {file.path.parent: file for file in damaged if file.slice_like and not file.series}
    for one in series:
        near = (beside[folder] for folder in {file.parent for file in one.files} if folder in beside)
        lost = of_series.get(one.uid) or next(near, None)
        if lost is not None and not one.fault:
            one.fault = (
                f"damaged slice: {clean(lost.path.name)} ({lost.reason}); repair it, or remove it from the folder"
            )


def _of_slice(dataset: Any) -> tuple[str, bool]:
    """Series of a damaged file, "" where unknown, and whether it may be a slice of a scan."""
    uid, slice_like = "", True
    with contextlib.suppress(Exception):
        uid = str(dataset.get("SeriesInstanceUID") or "")
    with contextlib.suppress(Exception):
        kind, modality = _kind(dataset), str(dataset.get("Modality") or "")
        slice_like = kind not in (*SEG, RTSTRUCT, DIRECTORY) and modality not in NOT_IMAGES
    return uid, slice_like


def _fault(dataset: Any, kind: str) -> str:
    """Why an image is not part of a scan."""
    words = [str(word).upper() for word in dataset.get("ImageType") or ()]
    if kind.startswith(SECONDARY_CAPTURE):
        return "secondary capture: a picture of a screen or a report, not a scan"
    if any("LOCALIZER" in word or "SCOUT" in word or "TOPOGRAM" in word for word in words):
        return "localiser: an overview picture, not a scan"
    axes = numbers_of(dataset, "ImageOrientationPatient", 6)
    if words[:1] == ["DERIVED"] and axes is not None:
        normal = np.cross(axes[:3], axes[3:])
        reformatted = str(dataset.get("Modality")) == "CT" or not REFORMATS.isdisjoint(words)
        if reformatted and abs(normal[2]) < AXIAL:
            return "derived reformat: not axial, its original series is the scan"
    return ""
