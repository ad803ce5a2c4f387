"""Landmark files: what is read, what is skipped, what is refused and how it is said."""

from __future__ import annotations

import numpy as np
import pytest

from alice3d.data.tables.landmarks import check_convention, read_landmarks
from alice3d.errors import UserError

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
