"""The tolerance of NSD is never chosen below the voxel, where it hardly tells good from bad."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alice3d.metrics.segmentation import surface_scores
from alice3d.tasks.segmentation.evaluate import nsd_tolerance


def cases(*spacings: tuple[float, float, float]) -> list[Any]:
    return [SimpleNamespace(spacing_mm=spacing) for spacing in spacings]


def test_left_out_it_is_two_millimetres_or_the_longest_voxel_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert nsd_tolerance(None, cases((1, 1, 1))) == 2.0
    assert nsd_tolerance(None, cases((4, 4, 4))) == 4.0
    assert nsd_tolerance(None, cases((1, 1, 1), (0.8, 0.8, 5))) == 5.0
    assert capsys.readouterr().err == ""


def test_a_smaller_one_is_taken_and_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert nsd_tolerance(3.0, cases((1, 1, 3.0001))) == 3.0
    assert capsys.readouterr().err == ""
    assert nsd_tolerance(2.0, cases((1, 1, 5))) == 2.0
    said = capsys.readouterr().err
    assert "--tolerance 2: voxels are up to 5 mm long" in said
    assert said.count("\n") == 1


def sphere(side_mm: float, shift_mm: float) -> np.ndarray:
    centres = (np.indices((round(80 / side_mm),) * 3) + 0.5) * side_mm - 40
    centres[0] -= shift_mm
    return (centres**2).sum(axis=0) < 15**2


@pytest.mark.parametrize(("side_mm", "expected"), [(1.0, [1.00, 0.82, 0.41]), (4.0, [0.94, 0.86, 0.51])])
def test_below_the_voxel_good_and_bad_come_nearer(side_mm: float, expected: list[float]) -> None:
    """Spheres 1, 3 and 6 mm apart at 2 mm, the figures of `nsd_tolerance`: a voxel of 4 mm blurs both ends."""
    found = [
        surface_scores(sphere(side_mm, 0), sphere(side_mm, shift), (side_mm,) * 3, tolerance_mm=2.0)[0]
        for shift in (1, 3, 6)
    ]
    assert found == pytest.approx(expected, abs=0.006)
