"""CSV files as people and spreadsheets write them: separators, blank rows, encodings, true line numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from dataset_folders import image, label

from alice3d.data.sources.layouts import find_sources
from alice3d.data.tables.classes import read_class_table
from alice3d.data.tables.csv_rows import read_rows
from alice3d.data.tables.landmarks import read_landmarks
from alice3d.errors import UserError


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_blank_rows_and_lines(tmp_path: Path, separator: str, end: str) -> None:
    lines = ["", "case,class", "a,1", "", "  ", "b,x y", ",", ""]
    path = tmp_path / "t.csv"
    path.write_bytes(end.join(lines).replace(",", separator).encode("utf-8-sig"))
    assert read_rows(path) == (
        ["case", "class"],
        [(3, {"case": "a", "class": "1"}), (6, {"case": "b", "class": "x y"})],
    )


def test_what_spreadsheets_write(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sep=;\ncase;structure;x_mm;y_mm;z_mm;\na;tip, left;1,5;-2;3,25;\n")
    marks = read_landmarks(path, {"a"}).points_mm["a"]
    assert marks["tip, left"].tolist() == [1.5, -2, 3.25]
    path.write_text('case,class\n"a;b",one\n')
    assert [row.case for row in read_class_table(path)] == ["a;b"]
    path.write_text('"image";"label"\n"x.nii";""\n')
    assert read_rows(path)[0] == ["image", "label"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "it is UTF-16 or binary; save it as CSV in UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "it is UTF-16 or binary"),
        ("a,b\n1,2\n1,Düse\n".encode("latin-1"), "line 3 is not UTF-8; save it as CSV in UTF-8"),
        (b"a,b\n\n1,2,3\n", "line 3 has 3 fields, the first line 2"),
        (b"a,b,a\n1,2,3\n", "has two columns 'a'"),
        (b'a,b\n1,"2\n', "not a readable CSV file, line 2"),
    ],
)
def test_faults_are_named_with_what_to_do(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)


def test_a_missing_label_is_named_and_the_true_line_told(tmp_path: Path) -> None:
    image(tmp_path / "a.nii")
    path = tmp_path / "t.csv"
    for name in ("none.nii.gz", "none.dcm", "nan", "deep/none"):
        path.write_text(f"image,label\na.nii,{name}\n")
        assert [source.fault for source in find_sources(path, None).sources] == [f"label {name}: no such file"]
    path.write_text("image,id\na.nii,x\n\n,y\n")
    with pytest.raises(UserError, match="line 4 has no image"):
        find_sources(path, None)


def test_backslashes_separate_folders(tmp_path: Path) -> None:
    image(tmp_path / "data" / "a.nii")
    label(tmp_path / "data" / "l.nii")
    image(tmp_path / "odd\\name.nii")
    (tmp_path / "t.csv").write_text("image,label\ndata\\a.nii,data\\l.nii\nodd\\name.nii,\n")
    found = find_sources(tmp_path / "t.csv", None).sources
    assert [(source.name, source.label_name) for source in found] == [
        ("data/a.nii", "data/l.nii"),
        ("odd\\name.nii", ""),
    ]
    (tmp_path / "t.csv").write_text("image\nC:\\data\\a.nii\n..\\out.nii\n")
    assert {source.fault.split(":")[0] for source in find_sources(tmp_path / "t.csv", None).sources} == {
        "path leaves its folder"
    }
