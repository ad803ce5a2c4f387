"""Guesses CT or MR from the values, and checks that a CT's values are Hounsfield units."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alice3d.io.volume import ScanError

AIR_BELOW_HU = -150
"""A CT scan holds values below: air, lung or fat. MR holds none, or z-scores near 0."""
LOWEST_PADDING_HU = -32768
NOT_CT = {"MR", "PT", "NM", "US"}
"""DICOM modalities whose values are never Hounsfield units."""
MAX_HU = 32000
"""Above: negative values that were stored as unsigned ones (65,536 - 1,024 = 64,512)."""


def _sample(array: NDArray[Any]) -> NDArray[Any]:
    """At most about 200,000 voxels, evenly spread."""
    step = max(int((array.size / 200_000) ** (1 / 3)), 1)
    return array[::step, ::step, ::step]


def guess_modality(array: NDArray[Any]) -> Literal["ct", "mr"]:
    """`ct` where the values look like Hounsfield units, else `mr`.

    CT: at least 1 in 200 voxels below -150, the median below 1,000 and none above what scanners write.
    """
    low, middle = np.percentile(_sample(array), (0.5, 50))
    ct = LOWEST_PADDING_HU <= low <= AIR_BELOW_HU and middle < 1000
    return "ct" if ct else "mr"


def modality_notes(array: NDArray[Any], modality: Literal["ct", "mr"], said: str) -> tuple[str, ...]:
    """A note where a scan seems to be of another modality than its store.

    Args:
        array: the scan.
        modality: of the store.
        said: Modality in its DICOM header, "" where there is none.
    """
    if said in NOT_CT and modality == "ct":
        return (f"its DICOM header says {said}, the store is CT",)
    if modality == "mr" and said == "CT":
        return ("its DICOM header says CT, the store is MR",)
    if modality == "mr" and guess_modality(array) == "ct":
        return ("its values look like Hounsfield units, the store is MR",)
    return ()


def check_hu(array: NDArray[Any], name: str, *, modality_given: bool) -> None:
    """Refuse a CT whose values are not Hounsfield units.

    Args:
        array: the scan.
        name: for the message.
        modality_given: the user stated that it is CT: a crop without air is then accepted.

    Raises:
        ScanError: what the values look like instead.
    """
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high > MAX_HU:
        raise ScanError(
            name, f"not in HU: values {low:g} to {high:g} look like HU stored as unsigned numbers; convert it again"
        )
    if low >= 0 and high > 1500:
        raise ScanError(
            name, f"not in HU: values {low:g} to {high:g} lack their intercept (often -1024); convert it again"
        )
    if low >= 0:
        raise ScanError(name, f"not in HU: values {low:g} to {high:g}; a label map, or a scan that was rescaled?")
    if not modality_given and guess_modality(array) != "ct":
        raise ScanError(name, f"not in HU: values {low:g} to {high:g} look like MR; give --modality ct if it is CT")
