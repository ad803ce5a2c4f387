"""Names of label values: every common form is read, and what is wrong is refused by its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alice3d.data.tables.label_names import read_label_names
from alice3d.errors import UserError


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"1": "liver", "2": "spleen"}, {1: "liver", 2: "spleen"}),
        ({"background": 0, "liver": 1}, {1: "liver"}),
        ({"name": "x", "labels": {"0": "background", "4": "kidney"}}, {4: "kidney"}),
    ],
)
def test_label_names_in_every_common_form(tmp_path: Path, content: Any, expected: Any) -> None:
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    assert read_label_names(str(path)) == expected
    assert read_label_names("1=liver,2=spleen") == {1: "liver", 2: "spleen"}
    assert read_label_names("") == {}


@pytest.mark.parametrize("content", ['{"liver": [1, 2]}', '{"a": 1, "b": 1}', '{"a": 1, "b": "x"}', "3", "{"])
def test_bad_label_names_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "names.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"names\.json"):
        read_label_names(str(path))


def test_label_names_in_words_drop_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    many = {value: f"structure_{value}" for value in range(1, 60)}
    assert read_label_names(",".join(f"{value}={name}" for value, name in many.items())) == many
    assert read_label_names("liver = 1, spleen = 2") == {1: "liver", 2: "spleen"}
    for text, words in (
        ("1=liver,spleen", "'spleen' is not a value with a name; write 1=liver,2=spleen"),
        ("1=,2=b", "'1=' is not a value with a name"),
        ("1=a,", "'' is not a value with a name"),
        ("1=a,1=b", "'1' is given twice"),
        ("1=a,01=b", "1 is named twice"),
        ("1=a,2=a", "two label values have the same name"),
    ):
        with pytest.raises(UserError, match=words):
            read_label_names(text)
