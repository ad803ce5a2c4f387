"""The folder of a store: an overwriting call takes away a store's own files and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scan_files import write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.errors import UserError

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")
AGAIN = replace(OPTIONS, overwrite=True)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", [OPTIONS, AGAIN], ids=["plain", "overwrite"])
@pytest.mark.parametrize(
    ("given", "labels", "store", "words"),
    [
        ("data/images", None, "data", "its folder images holds scans"),
        ("data/images", "data/labels", "data", "its folder (images|labels) holds scans"),
        ("data", None, "data", "is the folder of scans or labels itself"),
        ("data/images/a.nii.gz", None, "data", "its folder images holds scans"),
        ("data/images", None, "data/images", "is the folder of scans or labels itself"),
        ("data/images", "data/labels", "data/labels", "is the folder of scans or labels itself"),
        ("data/list.csv", None, "data", "its folder images holds scans"),
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
