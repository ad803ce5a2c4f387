"""Folders that cannot be read, relative roots, and nnU-Net folders whose files get in each other's way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from dataset_folders import OPTIONS, image, label, nnunet

from alice3d.cli import main
from alice3d.data.prepare import prepare
from alice3d.data.sources.layouts import find_sources
from alice3d.data.store import Store


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`lock(folder)` makes a folder one that nobody may list; tests may run as root, whom no permission stops."""
    locked: set[str] = set()
    real = os.scandir

    def scandir(path: Any) -> Any:
        if os.fspath(path) in locked:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return lambda folder: locked.add(os.fspath(folder))


def test_folders_that_cannot_be_read_are_told(tmp_path: Path, lock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    image(tmp_path / "scans" / "a.nii")
    for name in ("b", "deep/c"):
        image(tmp_path / "scans" / name / "x.nii", seed=1)
        lock(tmp_path / "scans" / name)
    assert prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)["taken"] == 1
    assert "warning: 2 folders cannot be read and are left out (b, deep/c)\n" in capsys.readouterr().err
    folder = nnunet(tmp_path / "d")
    image(folder / "imagesTr" / "more" / "liver_d_0000.nii.gz")
    lock(folder / "imagesTr" / "more")
    assert find_sources(folder, None).warnings[0] == "1 folders cannot be read and are left out (imagesTr/more)"


@pytest.mark.parametrize("where", ["scans", "labels", "imagesTr"])
def test_a_root_that_cannot_be_read_is_a_wrong_call(
    tmp_path: Path, lock: Any, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = tmp_path / "scans"
    image(scans / ("imagesTr" if where == "imagesTr" else ".") / "a.nii")
    label(tmp_path / "labels" / "a.nii")
    locked = {"scans": scans, "labels": tmp_path / "labels", "imagesTr": scans / "imagesTr"}[where]
    lock(locked)
    more = ["--labels", str(tmp_path / "labels")] if where == "labels" else []
    assert main(["prepare", str(scans), str(tmp_path / "s"), *more]) == 2
    assert capsys.readouterr().err == f"alice: {locked}: cannot be read; correct its permissions\n"


def test_a_root_that_cannot_be_looked_into_is_a_wrong_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    scans = tmp_path / "scans"
    scans.mkdir()
    monkeypatch.setattr(Path, "is_file", denied)
    assert main(["prepare", str(scans), str(tmp_path / "s")]) == 2
    assert capsys.readouterr().err == f"alice: {scans}: cannot be read (Permission denied)\n"


@pytest.mark.parametrize("root", [".", "../in", "in"])
def test_lists_with_relative_roots_stay_in_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    image(tmp_path / "secret" / "out.nii")
    image(tmp_path / "in" / "fine.nii")
    monkeypatch.chdir(tmp_path if root == "in" else tmp_path / "in")
    text = f"image,id\nfine.nii,a\n{tmp_path}/in/fine.nii,b\n../secret/out.nii,c\n../in/fine.nii,d\n"
    (tmp_path / "in" / "list.csv").write_text(text)
    outside = "path leaves its folder: give paths inside the folder of the file that lists them"
    found = {source.id: (source.name, source.fault) for source in find_sources(Path(root) / "list.csv", None).sources}
    fine = ("fine.nii", "")
    assert found == {"a": fine, "b": fine, "c": ("out.nii", outside), "d": fine}
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({"training": ["fine.nii", "../secret/out.nii"]}))
    for scans in (Path(root), Path(root) / "dataset.json"):
        faults = [source.fault for source in find_sources(scans, None).sources]
        assert faults == ["", outside.replace("the file that", "dataset.json, the file that")]


def test_nnunet_files_of_one_case_are_each_told(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "d")
    image(folder / "imagesTr" / "liver_a.nii.gz", seed=5)
    image(folder / "imagesTr" / "sub" / "liver_b_0000.nii.gz", seed=6)
    label(folder / "labelsTr" / "sub" / "liver_c.nii.gz")
    label(folder / "labelsTr" / "stranger.nii.gz")
    found = find_sources(folder, None)
    faults = {source.name.removeprefix("imagesTr/"): source.fault.split(":")[0] for source in found.sources}
    assert faults == {
        **dict.fromkeys(["liver_a_0000.nii.gz", "liver_a.nii.gz"], "duplicate case name"),
        **dict.fromkeys(["liver_b_0000.nii.gz", "sub/liver_b_0000.nii.gz"], "duplicate case name"),
        "liver_c_0000.nii.gz": "duplicate label",
        "imagesTs/liver_t_0000.nii.gz": "",
    }
    assert found.warnings[0] == "1 labels have no scan of their name (stranger)"


def test_nnunet_version_1_lists_files_without_their_channel(tmp_path: Path) -> None:
    training = [{"image": f"./imagesTr/liver_{n}.nii.gz", "label": f"./labelsTr/liver_{n}.nii.gz"} for n in "abc"]
    folder = nnunet(tmp_path / "Task09", labels={"0": "background", "1": "liver"}, training=training, test=[])
    prepare(folder, tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert [(case.id, case.labelled) for case in store.cases()] == [
        *((f"liver_{name}", True) for name in "abc"),
        ("liver_t", False),
    ]
    assert store.label_names == {1: "liver"}


def test_a_channel_is_of_nnunet_folders_alone(tmp_path: Path) -> None:
    image(tmp_path / "plain" / "a_0000.nii")
    assert find_sources(tmp_path / "plain", None, channel=0).warnings[0].startswith("channel: is ignored")
    assert not any("channel" in text for text in find_sources(nnunet(tmp_path / "d"), None, channel=0).warnings)
