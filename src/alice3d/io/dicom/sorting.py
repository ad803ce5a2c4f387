"""Sorts files into DICOM series, and finds those that are not scans."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydicom.uid import UID

from alice3d.io.dicom.detect import is_dicom
from alice3d.io.dicom.identity import Identity, identity_of, patient_key, told_apart
from alice3d.io.dicom.labels import RTSTRUCT, SEG, LabelObject, read_object
from alice3d.io.dicom.series import MOSAIC_TAGS, kind_of, numbers_of, open_dataset, silent
from alice3d.io.folders import clean, walk
from alice3d.io.volume import ScanError
from alice3d.io.volume import damaged as damaged_reason

NOT_IMAGES = {"SR", "PR", "KO", "REG", "RTPLAN", "RTSTRUCT", "RTDOSE", "RTRECORD", "SEG", "DOC", "ECG", "AU", "FID"}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIRECTORY = "1.2.840.10008.1.3.10"
REFORMATS = {"MPR", "REFORMATTED", "PROJECTION IMAGE", "CSA MPR", "MIP"}
CHANGING = (
    "identifiers change from slice to slice (patient, study or frame of reference), as after a faulty anonymisation; "
    "anonymise it again so that a series keeps them"
)
AXIAL = 0.8
"""Component of the slice normal along the body's axis from which slices count as axial."""


@dataclass
class Series:
    """Files that belong together.

    Attributes:
        files: in no order.
        number: SeriesNumber, "" where there is none.
        modality: such as CT.
        patient: PatientID as the files give it; in memory only: never shown, logged or written.
        owner: digest of PatientID, "" where there is none.
        uid, study, frame: identifiers of the series, its study and its coordinate system, to find its labels; never
            shown.
        fault: why it is not a scan; "" where it is one.
        part: "localiser" for the localisers of a series that is a scan, else "".
    """

    files: list[Path] = field(default_factory=list)
    number: str = ""
    modality: str = ""
    patient: str = field(default="", repr=False)
    owner: str = field(default="", repr=False)
    uid: str = field(default="", repr=False)
    study: str = field(default="", repr=False)
    frame: str = field(default="", repr=False)
    fault: str = ""
    part: str = ""

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


class Image(NamedTuple):
    """What is kept of a file with pixels while files are sorted; identifiers as in `Series`.

    Attributes:
        path: the file.
        fault: why it is not part of a scan; "" where it is.
    """

    path: Path
    fault: str
    number: str
    modality: str
    patient: str
    owner: str
    uid: str
    study: str
    frame: str


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
    images: dict[str, list[tuple[Identity, Image]]] = {}
    damaged: list[Damaged] = []
    others: Counter[str] = Counter()
    labels: list[LabelObject] = []
    for path in files:
        dataset: Any = None
        try:
            dataset = open_dataset(path, force=True)
            kind = kind_of(dataset)
            modality = str(dataset.get("Modality") or "")
            label = read_object(path) if kind in (*SEG, RTSTRUCT) else None
            if label is not None:
                labels.append(label)
            elif not kind:
                empty = path.stat().st_size == 0
                reason = "empty file" if empty else "not a DICOM file: no DICM prefix"
                damaged.append(Damaged(path, reason, *_of_slice(dataset)))
            elif modality not in NOT_IMAGES and not dataset.get("Rows") and _claims_image(dataset, kind):
                damaged.append(Damaged(path, "damaged file: an image without rows", *_of_slice(dataset)))
            elif kind != DIRECTORY and (modality in NOT_IMAGES or not dataset.get("Rows")):
                others[modality if modality in NOT_IMAGES else "other"] += 1  # a damaged tag may hold anything
            elif kind != DIRECTORY:
                identity = identity_of(dataset)
                place = identity.series or f"{path.parent}/{identity.number}"
                images.setdefault(place, []).append((identity, _image(path, dataset, kind)))
        except ScanError as error:
            damaged.append(Damaged(path, error.reason, *_of_slice(dataset)))
        except OSError as error:
            damaged.append(Damaged(path, f"cannot be read: {error.strerror or type(error).__name__}"))
        except Exception as error:  # a damaged tag raises nearly any exception, and its text may hold the value
            damaged.append(Damaged(path, damaged_reason(error), *_of_slice(dataset)))
    series = [one for same in images.values() for one in _series_of(same)]
    _fault_lost(series, damaged)
    ordered = sorted(series, key=lambda s: (s.folder, s.number.zfill(8), s.part, min(s.files)))
    return Grouped(ordered, [(file.path, file.reason) for file in damaged], others, labels)


def _claims_image(dataset: Any, kind: str) -> bool:
    """Whether a file without rows is a damaged image: it says so, or breaks off before it says anything."""
    return UID(kind).name.endswith("Image Storage") or ("SOPClassUID" not in dataset and kind != DIRECTORY)


def _image(path: Path, dataset: Any, kind: str) -> Image:
    tags = ("SeriesNumber", "Modality", "PatientID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    number, modality, patient, uid, study, frame = (sys.intern(str(dataset.get(tag) or "")) for tag in tags)
    owner = sys.intern(patient_key(dataset))
    return Image(path, _fault(dataset, kind), number.strip(), modality, patient, owner, uid, study, frame)


def _series_of(images: list[tuple[Identity, Image]]) -> list[Series]:
    """Images that claim one series, told apart by patient, study and frame of reference; localisers are kept apart."""
    scans = [(identity, image) for identity, image in images if not image.fault.startswith("localiser")]
    overviews = [image for _, image in images if image.fault.startswith("localiser")]
    groups, changing = told_apart(scans)
    found = [_one_series(group_) for group_ in groups]
    for one in found:
        one.fault = one.fault or (CHANGING if changing else "")
    if overviews:
        found.append(_one_series(overviews))
        found[-1].part = "localiser" if groups else ""
    return found


def _one_series(images: list[Image]) -> Series:
    """A series of these images, with the first value of each tag that is not empty."""
    first = {name: next(filter(None, (getattr(image, name) for image in images)), "") for name in Image._fields[1:]}
    return Series(files=[image.path for image in images], **first)


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
        kind, modality = kind_of(dataset), str(dataset.get("Modality") or "")
        slice_like = kind not in (*SEG, RTSTRUCT, DIRECTORY) and modality not in NOT_IMAGES
    return uid, slice_like


def _fault(dataset: Any, kind: str) -> str:
    """Why an image is not part of a scan."""
    words = [str(word).upper() for word in dataset.get("ImageType") or ()]
    if kind.startswith(SECONDARY_CAPTURE):
        return "secondary capture: a picture of a screen or a report, not a scan"
    if any("MOSAIC" in word for word in words) or any(tag in dataset for tag in MOSAIC_TAGS):
        return "a mosaic: its slices are tiles of one picture; convert it (dcm2niix) and prepare the NIfTI"
    if any("LOCALIZER" in word or "SCOUT" in word or "TOPOGRAM" in word for word in words):
        return "localiser: an overview picture, not a scan"
    axes = numbers_of(dataset, "ImageOrientationPatient", 6)
    if words[:1] == ["DERIVED"] and axes is not None:
        normal = np.cross(axes[:3], axes[3:])
        reformatted = str(dataset.get("Modality")) == "CT" or not REFORMATS.isdisjoint(words)
        if reformatted and abs(normal[2]) < AXIAL:
            return "derived reformat: not axial, its original series is the scan"
    return ""
