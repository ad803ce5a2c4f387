"""The folder of a store: what an overwriting call takes away, and how a stopped or damaged one goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scan_files import write_nifti

from alice3d.data.prepare import PrepareOptions, case, prepare
from alice3d.data.prepare import case as case_work
from alice3d.data.prepare.prepare import verify
from alice3d.data.store import Store
from alice3d.data.store.index import INDEX
from alice3d.data.store.writer import MANIFEST
from alice3d.errors import UserError, WorkFailed

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")
AGAIN = replace(OPTIONS, overwrite=True)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", [OPTIONS, AGAIN], ids=["plain", "overwrite"])
@pytest.mark.parametrize(
    ("given", "labels", "store", "words"),
    [
        ("data/images", None, "data", "which this call reads"),
        ("data/images", "data/labels", "data", "which this call reads"),
        ("data", None, "data", "is the folder of scans or labels itself"),
        ("data/images/a.nii.gz", None, "data", "which this call reads"),
        ("data/images", None, "data/images", "is the folder of scans or labels itself"),
        ("data/images", "data/labels", "data/labels", "is the folder of scans or labels itself"),
        ("data/list.csv", None, "data", "which this call reads"),
    ],
)
def test_scans_and_labels_are_never_removed(
    scans: Scans, tmp_path: Path, options: PrepareOptions, given: str, labels: str | None, store: str, words: str
) -> None:
    data = scans("a", "b", folder="data/images").parent
    scans("a", "b", folder="data/labels")
    (data / "list.csv").write_text("image\nimages/a.nii.gz\n")
    before = files_in(data)
    options = replace(options, labels=tmp_path / labels if labels else None)
    with pytest.raises(UserError, match=words):
        prepare(tmp_path / given, tmp_path / store, options)
    assert files_in(data) == before


def test_arrays_and_tables_of_no_store_are_in_the_way(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a")
    for name in ("images/mine.b2nd", "images/a.png", "splits.json", "index.csv"):
        path = tmp_path / "other" / name
        path.parent.mkdir(parents=True)
        path.write_text("mine")
        for options in (OPTIONS, AGAIN):
            with pytest.raises(UserError, match="choose another folder") as caught:
                prepare(folder, tmp_path / "other", options)
            assert "--overwrite" not in str(caught.value)
        assert files_in(tmp_path / "other") == {name: b"mine"}
        shutil.rmtree(tmp_path / "other")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "store.json").write_text('{"goods": []}')
    with pytest.raises(UserError, match="is not a store of alice"):
        prepare(folder, tmp_path / "other", AGAIN)


def test_overwriting_keeps_what_a_user_put_into_a_store(scans: Scans, tmp_path: Path) -> None:
    folder, store = scans("a", "b"), tmp_path / "s"
    prepare(folder, store, OPTIONS)
    write_nifti(store / "images" / "mine.nii.gz", Store.open(store).image("a")[:])
    (store / "notes.txt").write_text("mine")
    (folder / "b.nii.gz").unlink()
    assert prepare(folder, store, replace(AGAIN, spacing_mm=(4.0, 4.0, 4.0)))["taken"] == 1
    assert {path.name for path in (store / "images").iterdir()} == {"a.b2nd", "mine.nii.gz"}
    assert (store / "notes.txt").read_text() == "mine"
    (store / "store.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="is damaged; prepare again with --overwrite"):
        prepare(folder, store, OPTIONS)
    assert prepare(folder, store, AGAIN)["taken"] == 1


def test_a_call_killed_while_it_wrote_store_json_goes_on(scans: Scans, tmp_path: Path) -> None:
    folder, store = scans("a"), tmp_path / "s"
    for name in ("images/.unfinished-1.b2nd", "labels/.unfinished-2.b2nd", ".unfinished-3.json", ".lock"):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_text("half")
    assert prepare(folder, store, OPTIONS)["added"] == 1
    (store / ".unfinished-4.csv").write_text("half")
    assert prepare(folder, store, OPTIONS)["added"] == 0
    assert not list(store.rglob(".unfinished-*"))


def test_a_call_stopped_midway_leaves_a_store_that_is_sound(
    scans: Scans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = scans("a"), tmp_path / "s"
    prepare(folder, store, OPTIONS)
    scans("a", "b", "c", folder="scans")
    os.utime(folder / "a.nii.gz", ns=(1, 1))
    real = case.write_array

    def stop(path: Path, *rest: Any) -> str:
        if path.stem == "c":
            raise KeyboardInterrupt
        return real(path, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(case_work, "write_array", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(folder, store, OPTIONS)
    assert verify(store)["files"] == 2
    assert prepare(folder, store, OPTIONS)["added"] == 1
    assert (store / MANIFEST).read_text().splitlines()[-2].endswith(f"  {INDEX}")
    (store / INDEX).write_text((store / INDEX).read_text().replace("pretrain", "test"))
    with pytest.raises(WorkFailed, match=r"index\.csv has changed") as caught:
        verify(store)
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "added"),
    [
        (b"b.nii.gz,", b'"b.nii.gz,', 1),
        (b"b,pretrain", b"b,pre\xfftrain", 1),
        (b"b,pretrain,taken,,b.nii.gz,", b"b,pretrain,taken,,b.nii.gz,4,", 1),
        (b"b,pretrain", b"b,pretrain,taken\nb,pretrain", 0),
        (b"id,split", b"id,part", 3),
        (b"id,split", b"\xef\xbb\xbfid,split", 0),
        (b"\n", b"", 3),
    ],
)
def test_a_damaged_index_is_repaired(
    scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str], before: bytes, after: bytes, added: int
) -> None:
    folder, store = scans("a", "b", "c"), tmp_path / "s"
    prepare(folder, store, OPTIONS)
    sound, checksum = (store / INDEX).read_bytes(), Store.open(store).checksum
    damaged = sound.replace(before, after)
    assert damaged != sound
    (store / INDEX).write_bytes(damaged)
    with pytest.raises(UserError, match="run the same alice prepare command"):
        Store.open(store)
    assert prepare(folder, store, OPTIONS)["added"] == added
    assert "kept as damaged-index.csv" in capsys.readouterr().err
    assert (store / "damaged-index.csv").read_bytes() == damaged
    assert (store / INDEX).read_bytes() == sound
    assert Store.open(store).checksum == checksum
    prepare(folder, store, AGAIN)
    assert not (store / "damaged-index.csv").exists()


def test_scans_of_the_same_names_from_another_folder_are_told_of(
    scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, store = scans("a", "b", folder="one"), tmp_path / "s"
    (one / "cut.nii.gz").write_bytes(b"")
    prepare(one, store, OPTIONS)
    two = scans("x", "a", folder="two")
    capsys.readouterr()
    assert prepare(two, store, OPTIONS)["refused"] == 1
    assert "1 cases of the same name are prepared again from other files than before (a)" in capsys.readouterr().err
    (two / "x.nii.gz").rename(two / "b.nii.gz")
    (store / "s").mkdir()
    prepare(one, store / "s", OPTIONS)
    capsys.readouterr()
    assert prepare(two, store / "s", OPTIONS)["refused"] == 0
    err = capsys.readouterr().err
    assert "2 cases of the same name are prepared again" in err
    assert "1 refused scans are not among the given ones" in err
    assert prepare(two, store / "s", OPTIONS)["added"] == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("name", "words"), [(".lock", "cannot be opened for writing"), ("store.json", "be read")])
def test_a_file_that_may_not_be_opened_is_named(scans: Scans, tmp_path: Path, name: str, words: str) -> None:
    folder, store = scans("a"), tmp_path / "s"
    prepare(folder, store, OPTIONS)
    (store / name).unlink(missing_ok=True)
    (store / name).mkdir()  # what root cannot open either
    for options in (OPTIONS, AGAIN):
        with pytest.raises(UserError, match=words) as caught:
            prepare(folder, store, options)
        assert "damaged" not in str(caught.value)
    assert (store / "images" / "a.b2nd").exists()
