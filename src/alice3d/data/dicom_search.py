"""Sorts files into DICOM series, and says which of them are no scans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from alice3d.data.dicom import open_dataset, silent
from alice3d.data.dicom_labels import RTSTRUCT, SEG, LabelObject, read_object
from alice3d.data.scan import ScanError

ENDINGS = (".dcm", ".dicom", ".ima")
NOT_IMAGES = {"SR", "PR", "KO", "REG", "RTPLAN", "RTSTRUCT", "RTDOSE", "RTRECORD", "SEG", "DOC", "ECG", "AU", "FID"}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIRECTORY = "1.2.840.10008.1.3.10"
REFORMATS = {"MPR", "REFORMATTED", "PROJECTION IMAGE", "CSA MPR", "MIP"}
AXIAL = 0.8
"""The slice normal's share along the body's axis from which slices count as axial."""


@dataclass
class Series:
    """Files that belong together.

    Attributes:
        files: in no order.
        number: SeriesNumber, "" where there is none.
        modality: such as CT.
        uid, frame: identifiers of the series and of its coordinate system, to find its labels; never shown.
        fault: why it is no scan; "" where it is one.
    """

    files: list[Path] = field(default_factory=list)
    number: str = ""
    modality: str = ""
    uid: str = ""
    frame: str = ""
    fault: str = ""

    @property
    def folder(self) -> Path:
        """Of its first file."""
        return min(self.files).parent


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
    """Whether a file is DICOM by its magic, or by its name where the magic is left out."""
    try:
        with path.open("rb") as file:
            file.seek(128)
            magic = file.read(4)
    except OSError:
        return False
    return magic == b"DICM" or path.name.lower().endswith(ENDINGS)


@silent()
def group(files: Iterable[Path]) -> Grouped:
    """Sort DICOM files by series."""
    series: dict[str, Series] = {}
    damaged: list[tuple[Path, str]] = []
    others: Counter[str] = Counter()
    labels: list[LabelObject] = []
    for path in files:
        try:
            dataset = open_dataset(path, force=True)
            label = read_object(path) if dataset.get("SOPClassUID") in (*SEG, RTSTRUCT) else None
        except ScanError as error:
            damaged.append((path, error.reason))
            continue
        except OSError as error:
            damaged.append((path, f"cannot be read: {error.strerror or type(error).__name__}"))
            continue
        kind, modality = str(dataset.get("SOPClassUID") or ""), str(dataset.get("Modality") or "")
        if label is not None:
            labels.append(label)
        elif not kind and path.stat().st_size == 0:
            damaged.append((path, "empty file"))
        elif not kind:
            damaged.append((path, "wrong magic: not a DICOM file"))
        elif kind != DIRECTORY and (modality in NOT_IMAGES or not dataset.get("Rows")):
            others[modality if modality in NOT_IMAGES else "other"] += 1  # a damaged tag may hold anything
        elif kind != DIRECTORY:
            one = series.setdefault(str(dataset.get("SeriesInstanceUID") or path.parent), Series())
            one.files.append(path)
            one.number = one.number or str(dataset.get("SeriesNumber") or "").strip()
            one.modality = one.modality or modality
            one.uid = one.uid or str(dataset.get("SeriesInstanceUID") or "")
            one.frame = one.frame or str(dataset.get("FrameOfReferenceUID") or "")
            one.fault = one.fault or _fault(dataset, kind)
    ordered = sorted(series.values(), key=lambda s: (s.folder, s.number.zfill(8), min(s.files)))
    return Grouped(ordered, damaged, others, labels)


def _fault(dataset: Any, kind: str) -> str:
    """Why an image is not part of a scan."""
    words = [str(word).upper() for word in dataset.get("ImageType") or ()]
    if kind.startswith(SECONDARY_CAPTURE):
        return "secondary capture: a picture of a screen or a report, not a scan"
    if any("LOCALIZER" in word or "SCOUT" in word or "TOPOGRAM" in word for word in words):
        return "localiser: an overview picture, not a scan"
    axes = dataset.get("ImageOrientationPatient")
    if words[:1] == ["DERIVED"] and axes is not None and len(axes) == 6:
        normal = np.cross([float(v) for v in axes[:3]], [float(v) for v in axes[3:]])
        reformatted = str(dataset.get("Modality")) == "CT" or not REFORMATS.isdisjoint(words)
        if reformatted and abs(normal[2]) < AXIAL:
            return "derived reformat: not axial, its original series is the scan"
    return ""
