"""Scans that are gone from their folder: named, removed with --prune, and never those of another folder."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scan_files import head_like, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.prepare.patients import patient_keys
from alice3d.data.prepare.prepare import verify
from alice3d.data.store import Store
from alice3d.errors import UserError

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(4.0, 4.0, 4.0), modality="ct")
PRUNE = replace(OPTIONS, prune=True)


def ids(store: Path) -> list[str]:
    return [case.id for case in Store.open(store).cases()]


def test_a_withdrawn_case_is_named_and_leaves_with_prune(
    scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, store = scans("a", "b", "c", "d", "e", "f", labels=True), tmp_path / "s"
    options = replace(OPTIONS, labels=tmp_path / "labels")
    prepare(folder, store, options)
    before = {case.id: case.split for case in Store.open(store).cases()}
    (folder / "c.nii.gz").unlink()
    (tmp_path / "labels" / "c.nii.gz").unlink()
    for dry_run in (True, False):
        capsys.readouterr()
        prepare(folder, store, replace(options, dry_run=dry_run))
        assert "1 cases of the store are not among the given scans any more (c)" in capsys.readouterr().err
    assert ids(store) == list("abcdef")
    prepare(folder, store, replace(options, prune=True))
    assert "leave the store (c)" in capsys.readouterr().err
    assert ids(store) == list("abdef")
    assert {case.id: case.split for case in Store.open(store).cases()} == {n: s for n, s in before.items() if n != "c"}
    assert not (store / "images" / "c.b2nd").exists()
    assert not (store / "labels" / "c.b2nd").exists()
    assert "c" not in [name for of in json.loads((store / "splits.json").read_text()).values() for name in of]
    verify(store)
    prepare(folder, store, options)
    assert "any more" not in capsys.readouterr().err


def test_cases_of_another_folder_or_list_stay(scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, store = scans("a", "b", folder="one"), scans("c", "d", folder="two"), tmp_path / "s"
    (two / "list.csv").write_text("image,id\nc.nii.gz,e\nd.nii.gz,f\n")
    for scan in (one, two, two / "list.csv"):
        prepare(scan, store, OPTIONS)
    (one / "b.nii.gz").unlink()
    (two / "list.csv").write_text("image,id\nc.nii.gz,e\n")
    capsys.readouterr()
    prepare(two, store, PRUNE)
    assert "warning" not in capsys.readouterr().err
    assert ids(store) == list("abcdef")
    prepare(two / "list.csv", store, PRUNE)
    assert ids(store) == list("abcde")
    prepare(one, store, PRUNE)
    assert ids(store) == list("acde")


def test_a_scan_found_in_two_folders_leaves_with_the_last(scans: Scans, tmp_path: Path) -> None:
    one, store = scans("a", "b", folder="one"), tmp_path / "s"
    two = shutil.copytree(one, tmp_path / "two")  # the same times and sizes
    prepare(one, store, OPTIONS)
    assert prepare(two, store, OPTIONS)["added"] == 0
    (two / "b.nii.gz").unlink()
    prepare(two, store, PRUNE)
    assert ids(store) == ["a", "b"]
    (one / "b.nii.gz").unlink()
    prepare(one, store, PRUNE)
    assert ids(store) == ["a"]


def test_a_folder_that_moved_with_its_store_is_known(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b", folder="old/scans")
    prepare(folder, tmp_path / "old" / "s", OPTIONS)
    (tmp_path / "old").rename(tmp_path / "new")
    (tmp_path / "new" / "scans" / "b.nii.gz").unlink()
    prepare(tmp_path / "new" / "scans", tmp_path / "new" / "s", PRUNE)
    assert ids(tmp_path / "new" / "s") == ["a"]
    assert str(tmp_path) not in (tmp_path / "new" / "s" / "index.csv").read_text()


def test_nothing_is_pruned_where_the_folder_looks_missing(scans: Scans, tmp_path: Path) -> None:
    folder, store = scans("a", "b"), tmp_path / "s"
    prepare(folder, store, OPTIONS)
    for name in "ab":
        (folder / f"{name}.nii.gz").unlink()
    with pytest.raises(UserError, match="no scans found"):
        prepare(folder, store, PRUNE)
    write_nifti(folder / "x.nii.gz", head_like(seed=9))
    with pytest.raises(UserError, match=r"none of the 2 cases that came from .* is there now"):
        prepare(folder, store, PRUNE)
    assert ids(store) == ["a", "b"]
    prepare(folder, store, OPTIONS)
    assert ids(store) == ["a", "b", "x"]


def test_a_listed_file_that_is_gone_does_not_take_its_case_along(
    scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, store = scans("a", "b", "c"), tmp_path / "s"
    (folder / "list.csv").write_text("image\na.nii.gz\nb.nii.gz\nc.nii.gz\n")
    prepare(folder / "list.csv", store, OPTIONS)
    (folder / "b.nii.gz").unlink()
    capsys.readouterr()
    prepare(folder / "list.csv", store, OPTIONS)
    assert "any more (b)" in capsys.readouterr().err
    assert ids(store) == ["a", "b", "c"]
    prepare(folder / "list.csv", store, PRUNE)
    assert ids(store) == ["a", "c"]


def test_shards_neither_name_nor_prune(scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, store = scans("a", "b", "c", "d"), tmp_path / "s"
    for part in (1, 2):
        prepare(folder, store, replace(OPTIONS, shard=(part, 2)))
    (folder / "d.nii.gz").unlink()
    capsys.readouterr()
    prepare(folder, store, replace(OPTIONS, shard=(1, 2)))
    assert "any more" not in capsys.readouterr().err
    with pytest.raises(UserError, match="prune: not with --shard"):
        prepare(folder, store, replace(PRUNE, shard=(1, 2)))
    prepare(folder, store, PRUNE)
    assert ids(store) == ["a", "b", "c"]


def test_stores_of_an_earlier_release_lose_nothing(
    scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, store = scans("a", "b"), tmp_path / "s"
    prepare(folder, store, OPTIONS)
    rows = list(csv.DictReader((store / "index.csv").open()))
    columns = [name for name in rows[0] if name not in ("patient", "root")]
    with (store / "index.csv").open("w", newline="") as file:
        old = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        old.writeheader()
        old.writerows(rows)
    (folder / "b.nii.gz").unlink()
    prepare(folder, store, PRUNE)
    assert "not among the given scans (b); an earlier release" in capsys.readouterr().err
    assert ids(store) == ["a", "b"]


def test_a_label_that_is_gone_is_named_and_leaves_with_prune(
    scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, store = scans("a", "b", "c", "d", "e", labels=True), tmp_path / "s"
    options = replace(OPTIONS, labels=tmp_path / "labels")
    prepare(folder, store, options)
    gone = tmp_path / "labels" / "b.nii.gz"
    kept = gone.read_bytes()
    gone.unlink()
    capsys.readouterr()
    prepare(folder, store, options)
    assert "labels of 1 cases are not among the given ones any more (b); they stay" in capsys.readouterr().err
    assert Store.open(store).case("b").labelled
    prepare(folder, store, OPTIONS)  # without --labels: labels are not the matter of this call
    assert "labels of" not in capsys.readouterr().err
    prepare(folder, store, replace(options, prune=True))
    assert "labels of 1 cases are not among the given ones any more (b); they leave" in capsys.readouterr().err
    assert not Store.open(store).case("b").labelled
    assert not (store / "labels" / "b.b2nd").exists()
    assert Store.open(store).case("a").labelled
    verify(store)
    gone.write_bytes(kept)
    prepare(folder, store, options)
    assert Store.open(store).case("b").labelled


def test_overwrite_names_the_cases_of_other_folders(
    scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, store = scans("a", "b", folder="one"), scans("c", "d", folder="two"), tmp_path / "s"
    prepare(one, store, OPTIONS)
    prepare(two, store, OPTIONS)
    capsys.readouterr()
    prepare(one, store, replace(OPTIONS, overwrite=True))
    assert "--overwrite: 2 cases of the store are not among the given scans (c, d)" in capsys.readouterr().err
    assert ids(store) == ["a", "b"]
    prepare(one, store, replace(OPTIONS, overwrite=True))
    assert "--overwrite" not in capsys.readouterr().err


def test_identifiers_that_differ_in_case_or_blanks_are_one_patient() -> None:
    keys = patient_keys({"a": "P1", "b": " p1 ", "c": "P2"}, "salt")
    assert keys["a"] == keys["b"] != keys["c"]
