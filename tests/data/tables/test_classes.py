"""Class tables: what is read, and the line that says what is wrong with a file."""

from __future__ import annotations

import pytest

from alice3d.data.store import Store
from alice3d.data.tables.classes import Row, examples_of, read_class_table
from alice3d.errors import UserError


def written(tmp_path, text: str):
    path = tmp_path / "classes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_points_and_whole_scans(tmp_path):
    path = written(tmp_path, "\ufeffclass, case ,x_mm,y_mm,z_mm,voxels\nleft,a,1,-2.5,3,9\nright,a,2,0,3,9\n")
    assert read_class_table(path) == [Row(2, "a", (1.0, -2.5, 3.0), "left"), Row(3, "a", (2.0, 0.0, 3.0), "right")]
    path = written(tmp_path, "case,class\na,sick\nb,well\n")
    assert read_class_table(path) == [Row(2, "a", None, "sick"), Row(3, "b", None, "well")]
    path = written(tmp_path, "case,x_mm,y_mm,z_mm\na,0,0,0\n")
    assert read_class_table(path, classes=False) == [Row(2, "a", (0.0, 0.0, 0.0), "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,label\na,x\n", r"no column class \(needed case, class; found case, label\)"),
        ("class\nx\n", "no column case"),
        ("case,x_mm,class\na,1,x\n", "no column y_mm, z_mm"),
        ("", "no column case, class .*found nothing"),
        ("case,class\n", "holds no rows"),
        ("case,class\na,\n", "line 2: case and class must not be empty"),
        ("case,class\n,x\n", "line 2: case and class must not be empty"),
        ("case,class\na,x\na,y\n", "line 3: case 'a' is already on line 2"),
        ("case,x_mm,y_mm,z_mm,class\na,1,2,3,x\na,1,2,3.0,y\n", "line 3: this point of case 'a' is already on line 2"),
        ("case,x_mm,y_mm,z_mm,class\na,1,,3,x\n", "line 2: y_mm is '', a number in mm is needed"),
        ("case,x_mm,y_mm,z_mm,class\na,1,two,3,x\n", "line 2: y_mm is 'two'"),
        ("case,x_mm,y_mm,z_mm,class\na,1,2,nan,x\n", "line 2: z_mm is nan, a finite number"),
        ("case,x_mm,y_mm,z_mm,class\na,inf,2,3,x\n", "line 2: x_mm is inf, a finite number"),
        ("case,x_mm,y_mm,z_mm,class\na,1,2\n", "line 2: case and class must not be empty"),
    ],
)
def test_files_that_are_wrong(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as raised:
        read_class_table(written(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="not a readable CSV file"):
        read_class_table(tmp_path / "gone.csv")
    (tmp_path / "scan.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="not a readable CSV file"):
        read_class_table(tmp_path / "scan.csv")


def test_rows_find_their_cases(tiny_store, capsys):
    store = Store.open(tiny_store)
    case = store.cases("train")[0]
    middle = tuple(float(mm) for mm in case.grid.centre_mm)
    [found] = examples_of([Row(2, case.id, middle, "x")], store, "t.csv")
    assert (found.case.id, tuple(found.centre_mm)) == (case.id, middle)
    [whole] = examples_of([Row(2, case.id, None, "x")], store, "t.csv")
    assert case.grid.contains(whole.centre_mm)
    with pytest.raises(UserError, match=r"t.csv: line 7: .*no case 'gone'"):
        examples_of([Row(7, "gone", None, "x")], store, "t.csv")
    with pytest.raises(UserError, match=r"t.csv: line 7: point 0, 0, 99999 lies outside the body of the scan.*RAS mm"):
        examples_of([Row(7, case.id, (0.0, 0.0, 99999.0), "x")], store, "t.csv")
    store.refused.append(("broken", "broken.nii.gz", "is truncated"))
    rows = [Row(2, "broken", None, "x"), Row(3, case.id, None, "y")]
    assert [example.name for example in examples_of(rows, store, "t.csv")] == ["y"]
    assert "1 rows are of scans that the store refused" in capsys.readouterr().err
    with pytest.raises(UserError, match="no row is of a scan in the store"):
        examples_of(rows[:1], store, "t.csv")
