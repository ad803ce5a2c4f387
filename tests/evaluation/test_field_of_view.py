"""Scans cut so that a landmark is gone: where they end, and how often its match is refused."""

from __future__ import annotations

import numpy as np
import pytest

from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.tables.landmarks import Landmarks
from alice3d.evaluation.field_of_view import Cut, draw_cuts, refusal
from alice3d.geometry import Grid, diagonal_affine


def test_cuts_take_a_landmark_away():
    marks = {f"c{n}": {name: np.array([10.0 * n, 5.0, z]) for name, z in (("a", 0.0), ("b", 60.0))} for n in range(6)}
    cuts = draw_cuts(Landmarks(marks, ()), per_case=2, queries=3)
    assert len(cuts) == 12
    assert cuts == draw_cuts(Landmarks(marks, ()), per_case=2, queries=3)
    for cut in cuts:
        assert len(cut.queries) == 3
        assert cut.key not in cut.queries
        beyond = [(1 if cut.upper else -1) * (point[cut.axis] - cut.plane_mm) for point in marks[cut.key].values()]
        assert any(4 <= depth <= 40 for depth in beyond)
    alone = {"a": {"x": np.zeros(3)}, "b": {"y": np.zeros(3)}}
    assert draw_cuts(Landmarks(alone, ()), per_case=2, queries=3) == []


@pytest.mark.parametrize(("upper", "first", "last"), [(True, 0, 36), (False, 40, 76)])
def test_a_cut_scan_ends_at_the_plane(upper, first, last):
    grid = Grid((6, 6, 20), diagonal_affine((4.0, 4.0, 4.0), np.zeros(3)))
    image = np.arange(720, dtype=np.float32).reshape(1, 6, 6, 20)
    scan = ScanInput(image, np.zeros(1, np.float32), np.ones(grid.shape, bool), grid, ((0,) * 3, (1,) * 3), "whole")
    cut = Cut("k", 2, upper, 38.0, ("q",)).apply(scan)
    assert cut is not None
    assert cut.checksum == ""
    assert (cut.grid.world(np.zeros(3))[2], cut.grid.world(np.array(cut.grid.shape) - 1)[2]) == (first, last)
    start = first // 4
    np.testing.assert_array_equal(cut.image, image[..., start : start + 10])
    assert Cut("k", 2, upper, 900.0 if not upper else -900.0, ("q",)).apply(scan) is None


def test_refusals_are_counted():
    error, gone = np.array([2.0, 30, 5, 5, 20, 25]), np.array([-9.0, -9, -9, -9, 4, 20])
    accepted = np.array([True, True, False, True, True, False])
    found = refusal(error, accepted, gone, np.array([True, True, True, False, False, False]))
    assert found == {
        "gone": 2, "gone_refused": 0.5, "gone_8mm_refused": 1.0, "good": 2, "good_kept": 0.5,
        "good_in_cut_scans": 1, "good_in_cut_scans_kept": 1.0,
    }  # fmt: skip
    nothing = refusal(error[:1], accepted[:1], gone[:1], np.array([True]))
    assert nothing["gone_refused"] is None
