"""Landmark files: what is read, what is skipped, what is refused and how it is said."""

from __future__ import annotations

import numpy as np
import pytest

from alice3d.data.tables.landmarks import check_convention, read_landmarks, tell_unknown, within_scans
from alice3d.errors import UserError
from alice3d.geometry import Grid

HEADER = "case,structure,x_mm,y_mm,z_mm,voxels\n"
ROWS = "a,liver,10,-20.5,30,7\na,heart,1,2,3,7\nb,liver,4,5,6,7\nz,liver,1,1,1,1\n"


@pytest.fixture
def write(tmp_path):
    def to_file(text: str, encoding: str = "utf-8"):
        path = tmp_path / "landmarks.csv"
        path.write_text(text, encoding=encoding)
        return path

    return to_file


def test_rows_of_known_cases_are_read_and_others_counted(write):
    marks = read_landmarks(write(HEADER + ROWS), {"a", "b", "c"})
    assert set(marks.points_mm) == {"a", "b"}
    np.testing.assert_array_equal(marks.points_mm["a"]["liver"], [10, -20.5, 30])
    assert marks.skipped == ("z",)
    assert marks.structures == ["heart", "liver"]


def test_columns_in_any_order_with_byte_order_mark_and_spaces(write):
    text = "x_mm, y_mm,z_mm,structure,case\n1,2,3, liver ,a\n"
    marks = read_landmarks(write(text, "utf-8-sig"), {"a"})
    np.testing.assert_array_equal(marks.points_mm["a"]["liver"], [1, 2, 3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,structure,x,y,z\na,b,1,2,3\n", "no column x_mm, y_mm, z_mm"),
        ("", "found nothing"),
        (HEADER, "it has no rows"),
        (HEADER + "a,liver,ten,2,3,1\n", "line 2: x_mm is 'ten'"),
        (HEADER + "a,liver,1,2\n", "line 2: z_mm is ''"),
        (HEADER + "a,liver,1,nan,3,1\n", "line 2: y_mm is nan"),
        (HEADER + "a,,1,2,3,1\n", "must not be empty"),
        (HEADER + "a,liver,1,2,3,1\na,liver,1,2,3,1\n", "line 3: liver of case 'a' is given twice"),
        (HEADER + "q,liver,1,2,3,1\n", r"no landmark of a case in the store; its cases \(q, ...\)"),
    ],
)
def test_faults_are_named_with_their_line(write, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_landmarks(write(text), {"a", "b"})
    assert "\n" not in str(caught.value)


def test_missing_file_and_other_encodings_are_refused(write, tmp_path):
    with pytest.raises(UserError, match="not a readable CSV"):
        read_landmarks(tmp_path / "nothing.csv", {"a"})
    with pytest.raises(UserError, match="not a readable CSV"):
        read_landmarks(write(HEADER + ROWS, "utf-16"), {"a"})


def test_points_outside_the_bodies_are_refused_and_lps_is_recognised(write):
    marks = read_landmarks(write(HEADER + "a,one,50,60,5,1\na,two,60,40,5,1\nb,one,55,55,5,1\n"), {"a", "b"})

    def box(low, high):
        return lambda case, points: ((points >= low) & (points <= high)).all(axis=1)

    check_convention("marks.csv", marks, box([0, 0, 0], [100, 100, 10]))
    with pytest.raises(UserError, match=r"marks.csv: 100% .* they are LPS"):
        check_convention("marks.csv", marks, box([-100, -100, 0], [0, 0, 10]))
    with pytest.raises(UserError, match="not voxel indices"):
        check_convention("marks.csv", marks, box([500, 500, 500], [600, 600, 600]))


def grid_of(case: str) -> Grid:
    """100 mm along each axis around the origin, in voxels of 2 mm."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -49.0
    return Grid((50, 50, 50), affine)


def test_points_outside_their_scans_are_left_out_and_named(write, capsys):
    rows = "a,liver,10,-20,30\na,heart,1,2,3\nb,liver,4,900,6\nb,heart,4,5,6\nc,liver,0,0,-51.5\nc,heart,0,0,-49.5\n"
    path = write("case,structure,x_mm,y_mm,z_mm\n" + rows)
    marks = within_scans(path, read_landmarks(path, {"a", "b", "c"}), grid_of)
    assert {case: sorted(of) for case, of in marks.points_mm.items()} == {
        "a": ["heart", "liver"], "b": ["heart"], "c": ["heart"],
    }  # fmt: skip
    assert marks.outside == (("b", "liver"), ("c", "liver"))
    told = capsys.readouterr().err
    assert "2 landmarks lie outside their scans and are left out" in told
    assert "line 4: liver of 'b' at 4, 900, 6" in told
    assert "line 6: liver of 'c' at 0, 0, -51.5" in told


def test_a_case_all_of_whose_points_lie_outside_has_none(write):
    path = write("case,structure,x_mm,y_mm,z_mm\na,liver,1,1,1\na,heart,2,2,2\nb,liver,99,0,0\n")
    assert list(within_scans(path, read_landmarks(path, {"a", "b"}), grid_of).points_mm) == ["a"]


def test_points_that_all_lie_inside_are_the_same(write, capsys):
    path = write(HEADER + ROWS)
    marks = read_landmarks(path, {"a", "b"})
    assert within_scans(path, marks, grid_of) is marks
    assert capsys.readouterr().err == ""


def test_rows_of_unknown_cases_are_named(write, capsys):
    path = write(HEADER + ROWS + "z,heart,1,1,1,1\nother,heart,1,1,1,1\n")
    marks = read_landmarks(path, {"a", "b"})
    tell_unknown(path, marks, {"a", "b", "other"})
    assert "2 rows are of 1 cases that are none of the scans (z)" in capsys.readouterr().err
    tell_unknown(path, marks, {"a", "b", "other", "z"})
    assert capsys.readouterr().err == ""
