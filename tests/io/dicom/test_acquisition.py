"""A series whose slices are of several acquisitions is refused with the tag; one that only looks like it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import write_enhanced, write_series
from scan_files import affine_of, head_like

from alice3d.io.read import read_header, read_scan
from alice3d.io.volume import ScanError

LPS = affine_of(axes="LPS")
Values = Callable[[int], dict[str, Any]]


def write(folder: Path, values: Values) -> Path:
    """A series of which slice k has the tags `values(k)`."""

    def change(dataset: Any, k: int) -> None:
        for name, value in values(k).items():
            setattr(dataset, name, value)

    write_series(folder, head_like(), LPS, change=change)
    return folder


SEVERAL: dict[str, tuple[Values, str]] = {
    "echoes in turn": (lambda k: {"EchoTime": [5, 10][k % 2]}, "EchoTime is 5 and 10"),
    "echoes one below the other": (lambda k: {"EchoTime": [5, 90][k >= 8]}, "EchoTime is 5 and 90"),
    "echo numbers": (lambda k: {"EchoNumbers": 1 + k % 2}, "EchoNumbers is 1 and 2"),
    "one slice of another echo": (lambda k: {"EchoTime": [5, 10][k == 3]}, "EchoTime is 5 and 10"),
    "two sequences": (lambda k: {"RepetitionTime": [500, 3000][k % 2]}, "RepetitionTime is 500 and 3000"),
    "kernels": (lambda k: {"ConvolutionKernel": ["B30f", "B80f"][k % 2]}, "ConvolutionKernel is B30f and B80f"),
    "kernels of two values": (
        lambda k: {"ConvolutionKernel": [["Br40d", "3"], ["Br60d", "3"]][k % 2]},
        r"ConvolutionKernel is Br40d\3 and Br60d\3",
    ),
    "contrast": (
        lambda k: {"ContrastBolusAgent": ["", "Secret"][k % 2], "AcquisitionNumber": 1 + k % 2},
        "ContrastBolusAgent is missing and present",
    ),
    "magnitude and phase": (
        lambda k: {"ImageType": ["ORIGINAL", "PRIMARY", "MP"[k % 2], "ND"]},
        "ImageType is M and P",
    ),
    "derived": (lambda k: {"ImageType": [["ORIGINAL", "DERIVED"][k % 2], "PRIMARY"]}, "ImageType is DERIVED and ORIG"),
    "time points": (lambda k: {"TemporalPositionIdentifier": 1 + k % 2}, "TemporalPositionIdentifier is 1 and 2"),
    "b-values": (lambda k: {"DiffusionBValue": [0.0, 1000.0][k % 2]}, "DiffusionBValue is 0 and 1000"),
    "many echoes": (lambda k: {"EchoTime": 5 + 2 * (k % 6)}, "EchoTime is 5, 7, 9, 11 and 2 more"),
    "no code": (lambda k: {"ConvolutionKernel": ["Doe^Jane", "Roe^Jim"][k % 2]}, "ConvolutionKernel is 2 different"),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_slices_of_several_acquisitions_are_refused_with_the_tag(tmp_path: Path, case: str) -> None:
    values, reason = SEVERAL[case]
    with pytest.raises(ScanError) as told:
        read_header(write(tmp_path / "scan", values))
    assert f"slices of several acquisitions in one series: {reason}" in str(told.value)
    assert "give the folder of one" in str(told.value)
    assert "Secret" not in str(told.value)
    assert "Doe" not in str(told.value)


ONE: dict[str, Values] = {
    "rounded": lambda k: {"EchoTime": [4.9999, 5.0, 5.0004][k % 3], "RepetitionTime": 500 + 0.1 * k},
    "follows the breath": lambda k: {"RepetitionTime": 1000 + 37 * (k * 7 % 11)},
    "slabs": lambda k: {"AcquisitionNumber": 1 + k // 6, "AcquisitionTime": f"1200{k // 6:02d}"},
    "empty": lambda k: {"EchoTime": None, "ConvolutionKernel": "", "ContrastBolusAgent": "", "ImageType": None},
    "missing in one slice": lambda k: {"ConvolutionKernel": "B30f", "EchoNumbers": 1} if k != 3 else {},
    "padded": lambda k: {"ConvolutionKernel": ["B30f", "B30f "][k % 2]},
    "contrast": lambda k: {"ContrastBolusAgent": ["Iomeron", "Iomeron 400"][k % 2]},
    "counted": lambda k: {"TemporalPositionIdentifier": k + 1, "EchoNumbers": k + 1},
    "other words": lambda k: {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", ["A", "B"][k % 2]]},
}


@pytest.mark.parametrize("case", ONE)
def test_one_acquisition_is_read(tmp_path: Path, case: str) -> None:
    volume = read_scan(write(tmp_path / "scan", ONE[case]))
    np.testing.assert_array_equal(np.sort(volume.array, axis=None), np.sort(head_like(), axis=None))
    assert volume.notes == ()


@pytest.mark.parametrize(("second", "reason"), [(10.0, "EchoTime is 5 and 10"), (5.0, "")])
def test_frames_of_an_enhanced_object(tmp_path: Path, second: float, reason: str) -> None:
    path = write_enhanced(tmp_path / "a.dcm", head_like(), LPS)
    dataset = pydicom.dcmread(path)
    for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        echo = pydicom.Dataset()
        echo.EffectiveEchoTime = [5.0, second][k % 2]
        frame.MREchoSequence = pydicom.Sequence([echo])
    dataset.save_as(path)
    if reason:
        with pytest.raises(ScanError, match=reason):
            read_header(path)
    else:
        assert read_header(path).notes == ()
