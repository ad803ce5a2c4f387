"""CT or MR, by the header and the values: a guess, and checks of a scan; label maps are told from scans."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alice3d.io.volume import ScanError, Volume

AIR_BELOW_HU = -150
"""A CT scan holds values below: air, lung or fat. MR holds none, or z-scores near 0."""
LOWEST_PADDING_HU = -32768
NOT_CT = {"MR", "PT", "NM", "US"}
"""DICOM modalities whose values are never Hounsfield units."""
AIR_SHARE, TISSUE_SHARE = 0.02, 0.02
"""Least fractions of a scan's voxels that are air and soft tissue, where values are surely Hounsfield units."""
MAX_LABEL = 32767
FEW_VALUES, MANY_VALUES = 8, 256
"""Whole values from 0 up to the first number are a label map, up to the second one where neighbours are alike."""
ALIKE = 0.7
"""Least fraction of neighbouring voxels with one value in a label map of many values."""
LOWEST_HU = -1500
"""A lowest value below is padding: air is -1,000."""
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


def looks_like_hu(array: NDArray[Any]) -> bool:
    """Whether values are surely Hounsfield units: air near -1,000 around or in tissue, and nothing far below it."""
    sample = _sample(array)
    low, high = float(sample.min()), float(sample.max())
    padding = low in (-2000.0, -2048.0, -3024.0, -3071.0, -32768.0)
    if not (padding or -1100 <= low <= -950) or high > MAX_HU:
        return False
    air = float(((sample > -1100) & (sample < -900)).mean())
    tissue = float(((sample > -200) & (sample < 300)).mean())
    return air >= AIR_SHARE and tissue >= TISSUE_SHARE


def label_like(array: NDArray[Any]) -> str:
    """Why values are those of a label map and not of a scan; "" where they are not.

    A label map holds a few whole values from 0, and most voxels of a structure have a neighbour of the same value; in
    a scan noise changes it.
    """
    low, high = float(array.min()), float(array.max())
    if not (-1 <= low <= 1 and low < high <= MAX_LABEL):
        return ""
    sample = _sample(array)
    if array.dtype.kind == "f" and not (sample == np.rint(sample)).all():
        return ""
    count = len(np.unique(sample))
    if count > MANY_VALUES or (count > FEW_VALUES and _alike(array) < ALIKE):
        return ""
    return f"label map, not a scan: {count} whole values from {low:g} to {high:g}"


def _alike(array: NDArray[Any]) -> float:
    """Fraction of neighbouring voxels along the first axis that have one value, where both are above 0; 1 for none."""
    slabs = array[:, :, :: max(array.shape[2] // 16, 1)]
    one, other = slabs[1:], slabs[:-1]
    both = (one > 0) & (other > 0)
    return float((one == other)[both].mean()) if both.any() else 1.0


def modality_notes(array: NDArray[Any], modality: Literal["ct", "mr"], said: str) -> tuple[str, ...]:
    """A note where a scan that is taken seems to be of another modality than its store.

    Args:
        array: the scan.
        modality: of the store.
        said: Modality in its DICOM header, "" where there is none.
    """
    if said and said.lower() != modality and (modality == "ct" or said in ("CT", *NOT_CT)):
        return (f"its DICOM header says {_shown(said)}, the store is {modality.upper()}",)
    if modality == "mr" and guess_modality(array) == "ct":
        return ("its values look like Hounsfield units, the store is MR",)
    return ()


def _shown(said: str) -> str:
    """A Modality as it may be shown: a damaged tag may hold anything."""
    return said if said in ("CT", *NOT_CT) else "another modality"


def check_modality(
    volume: Volume, modality: Literal["ct", "mr"], name: str, *, given: bool, overrides: bool = False
) -> None:
    """Refuse a label map, a scan of another modality, and a CT whose values are not Hounsfield units.

    Args:
        volume: the scan, with what its header says.
        modality: that it is taken for.
        name: for the message.
        given: the modality was stated, not guessed: a CT crop without air is accepted.
        overrides: the user stated it of this very scan: a header that says something else is accepted, and so are
            values like Hounsfield units in MR; a CT must hold Hounsfield units all the same.

    Raises:
        ScanError: what it is instead.
    """
    array, said = volume.array, volume.modality
    reason = label_like(array)
    if reason:
        raise ScanError(name, reason)
    other = said if said in ("CT", *NOT_CT) and said.lower() != modality else ""
    advice = "" if given else f"; prepare it into a store of its own, or give --modality {modality}"
    if modality == "mr":
        if other == "CT" and not overrides:
            raise ScanError(name, f"other modality: a CT scan by its DICOM header, where MR is read{advice}")
        if not overrides and looks_like_hu(array):
            what = (
                "contradiction: its DICOM header says MR, but its"
                if said == "MR"
                else "other modality: MR is read, but its"
            )
            raise ScanError(name, f"{what} values look like Hounsfield units{advice}")
        return
    if other and not overrides:
        raise ScanError(
            name, f"other modality: {_article(other)} {other} scan by its DICOM header, where CT is read{advice}"
        )
    try:
        check_hu(array, name, modality_given=given or said == "CT", said=said)
    except ScanError as error:
        if not other:
            raise
        reason = f"other modality: {_article(other)} {other} scan by its DICOM header, where CT is read; {error.reason}"
        raise ScanError(name, reason) from None


def _article(said: str) -> str:
    return "an" if said in ("MR", "NM") else "a"


def check_hu(array: NDArray[Any], name: str, *, modality_given: bool, said: str = "") -> None:
    """Refuse a CT whose values are not Hounsfield units.

    Args:
        array: the scan.
        name: for the message.
        modality_given: the user or the header stated that it is CT: a crop without air is then accepted.
        said: Modality in its DICOM header, "" where there is none.

    Raises:
        ScanError: what the values look like instead.
    """
    low, high = float(array.min()), float(array.max())
    if low < LOWEST_HU:  # padding outside the field of view
        low = float(array[array > low].min()) if (array > low).any() else low
    if low >= 0 and high > MAX_HU:
        raise ScanError(
            name, f"not in HU: values {low:g} to {high:g} look like HU stored as unsigned numbers; convert it again"
        )
    if low >= 0 and said == "CT":
        raise ScanError(
            name,
            f"not in HU: its DICOM header says CT, but values {low:g} to {high:g} lack their intercept "
            "(RescaleIntercept, often -1024); export it again",
        )
    if low >= 0 and high > 1500:
        raise ScanError(
            name, f"not in HU: values {low:g} to {high:g} lack their intercept (often -1024); convert it again"
        )
    if low >= 0:
        raise ScanError(name, f"not in HU: values {low:g} to {high:g}; an MR scan, or a CT that was rescaled?")
    if said == "CT" and float(np.median(_sample(array))) > 1000:
        raise ScanError(name, f"not in HU: its DICOM header says CT, but half of its values are above 1000 ({high:g})")
    if not modality_given and guess_modality(array) != "ct":
        raise ScanError(name, f"not in HU: values {low:g} to {high:g} look like MR; give --modality ct if it is CT")
