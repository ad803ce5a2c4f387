"""Slices at one position: exact copies, or images that contradict each other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from alice3d.io.dicom.stack import Slice
from alice3d.io.folders import clean
from alice3d.io.volume import ScanError

VOLUME_TAGS = {
    "EchoTime": "echo time",
    "TemporalPositionIdentifier": "time point",
    "TriggerTime": "trigger time",
    "DiffusionBValue": "b-value",
    "FlipAngle": "flip angle",
    "InversionTime": "inversion time",
    "ConvolutionKernel": "reconstruction kernel",
    "ImageType": "type of image (magnitude, phase, ...)",
    "AcquisitionNumber": "acquisition number",
    "AcquisitionTime": "acquisition time",
}
"""Tags in which the volumes of one series differ, and their names; the values are only compared."""


class Contents:
    """Pixels of slices that lie at one position, each file opened once; a digest is kept of each slice.

    Args:
        name: of the series, for messages.
        pixels: reads the stored values of a file, (rows, columns) or (frames, rows, columns).
    """

    def __init__(self, name: str, pixels: Callable[[Path], NDArray[Any]]) -> None:
        self.name, self.pixels = name, pixels
        self.digests: dict[tuple[Path, int], bytes] = {}

    def without_copies(self, places: Sequence[Sequence[Slice]]) -> tuple[list[Slice], int]:
        """One slice a position, and the number of exact copies that were dropped.

        Args:
            places: slices of each position, at least one.

        Raises:
            ScanError: slices of one position whose pixels differ.
        """
        wanted: dict[Path, set[int]] = {}
        for same in places:
            for piece in same if len(same) > 1 else ():
                wanted.setdefault(piece.file, set()).add(piece.frame)
        kept, copies = [], 0
        for same in places:
            first = same[0]
            for other in same[1:]:
                if self._digest(first, wanted) != self._digest(other, wanted):
                    raise ScanError(self.name, self._conflict(first, other, places))
                copies += 1
            kept.append(first)
        return kept, copies

    def _digest(self, piece: Slice, wanted: dict[Path, set[int]]) -> bytes:
        """SHA-256 of a slice's stored values and their scaling."""
        key = (piece.file, piece.frame)
        if key not in self.digests:
            pixels = self.pixels(piece.file)
            for frame in wanted[piece.file]:
                image = np.ascontiguousarray(pixels[frame] if pixels.ndim == 3 else pixels)
                self.digests[piece.file, frame] = hashlib.sha256(image.astype("<f8").tobytes()).digest()
        return self.digests[key] + np.array([piece.slope, piece.intercept], "<f8").tobytes()

    def _conflict(self, first: Slice, other: Slice, places: Sequence[Sequence[Slice]]) -> str:
        """The place and the files of two slices that contradict each other, and what tells them apart."""
        files = [first.file, other.file]
        root = Path(os.path.commonpath([path.parent for path in files]))
        names = list(dict.fromkeys(clean(str(path.relative_to(root))) for path in files))
        x, y, z = first.position_mm
        axial = abs(np.cross(first.axes[:3], first.axes[3:])[2]) > 0.99
        where = f"z {z:g} mm" if axial else f"({x:g}, {y:g}, {z:g}) mm"
        several = sum(len(same) > 1 for same in places)
        what = f"{' and '.join(names)} lie at one position ({where}) and differ in their pixels"
        told = _difference(first, other)
        if several == len(places):
            by = f", by {told}" if told else ""
            advice = f"several volumes in one series{by}? convert it with dcm2niix, which writes one file a volume"
        else:
            by = f"; they differ in {told}" if told else ""
            advice = f"{several} of {len(places)} positions hold several slices{by}; remove those that do not belong"
        return f"conflicting slices: {what}; {advice}"


def _difference(first: Slice, other: Slice) -> str:
    """Name of the first tag in which two files differ, "" where none of `VOLUME_TAGS` does."""
    if first.file == other.file:
        return ""
    one, two = (_tags(piece.file) for piece in (first, other))
    return next((word for tag, word in VOLUME_TAGS.items() if one.get(tag) != two.get(tag)), "")


def _tags(path: Path) -> Any:
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(VOLUME_TAGS), force=True)
    except Exception:  # a damaged tag: the difference is then not named
        return {}
