"""Which split a case lies in: from a file, or a seeded draw that never reshuffles."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.data.store.splits import default_splits, read_splits
from alice3d.errors import UserError

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")


def test_splits_come_from_a_file(scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = scans("a", "b", "c")
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"heldout": ["a.nii.gz", "unknown"], "mine": ["b"]}))
    prepare(folder, tmp_path / "s", replace(OPTIONS, splits=splits))
    store = Store.open(tmp_path / "s")
    assert {case.id: case.split for case in store.cases()} == {"a": "heldout", "b": "mine", "c": ""}
    assert "1 ids of the splits file have no scan (unknown)" in capsys.readouterr().err
    splits.write_text(json.dumps({"heldout": ["c"]}))
    prepare(folder, tmp_path / "s", replace(OPTIONS, splits=splits))
    assert [case.id for case in Store.open(tmp_path / "s").cases("heldout")] == ["c"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "no valid JSON"),
        ("[]", "mapping"),
        ('{"a": "b"}', "must be a list"),
        ('{"a": ["x"], "b": ["x"]}', "in split 'a' and in 'b'"),
    ],
)
def test_bad_splits_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_splits(path)


def test_default_splits_keep_their_shares_and_never_reshuffle() -> None:
    names = [f"c{i:03d}" for i in range(50)]
    first = default_splits(names, ["u"], 0)
    assert [list(first.values()).count(split) for split in ("train", "val", "test", "pretrain")] == [35, 5, 10, 1]
    assert first == default_splits(names, ["u"], 0) != default_splits(names, ["u"], 1)
    more = default_splits([*names, *(f"d{i}" for i in range(50)), "u"], [], 0, first)
    assert {name: more[name] for name in names} == {name: first[name] for name in names}
    assert list(more.values()).count("test") == 20
    assert sorted(default_splits(["a", "b"], [], 0).values()) == ["test", "train"]
    assert default_splits(["a"], [], 0) == {"a": "train"}
