"""`alice prepare --dry-run` says what every file is taken for, on the console and in its result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_folders import image, label, nnunet

from alice3d.cli import main
from alice3d.data.prepare import PrepareOptions, prepare

OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct", dry_run=True)


def taken_for(folder: Path, out: Path) -> dict[str, tuple[str, str, str]]:
    """File to what it is taken for, its case and why."""
    result = prepare(folder, out / "s", OPTIONS)
    assert not (out / "s").exists()
    return {row["file"]: (row["what"], row["case"], row["why"]) for row in result["files"]}


def test_every_file_is_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "lits"
    image(folder / "volume-0.nii")
    label(folder / "segmentation-0.nii")
    image(folder / "test-volume-1.nii")
    image(folder / "more" / "extra.nii")
    (folder / "broken.nii").write_bytes(b"")
    (folder / "readme.txt").write_text("words")
    found = taken_for(folder, tmp_path)
    assert found == {
        "volume-0.nii": ("scan", "volume-0", "train"),
        "segmentation-0.nii": ("label", "volume-0", ""),
        "test-volume-1.nii": ("scan", "test-volume-1", "test"),
        "more/extra.nii": ("scan", "extra", ""),
        "broken.nii": ("refused", "broken", "empty file"),
        "readme.txt": ("ignored", "", "not a supported format"),
    }
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "Taken as: LiTS (volume-N with segmentation-N)"
    for line in (
        "segmentation-0.nii  label of case volume-0",
        "test-volume-1.nii   scan of case test-volume-1, split test",
        "broken.nii          refused: empty file",
        "readme.txt          ignored: not a supported format",
    ):
        assert line in said


def test_files_that_a_layout_does_not_read_are_told(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "d")
    image(folder / "spare" / "other.nii.gz")
    label(folder / "labelsTr" / "stranger.nii.gz")
    found = taken_for(folder, tmp_path)
    reason = "no scan or label of the layout: nnU-Net (imagesTr, labelsTr)"
    assert found["spare/other.nii.gz"] == ("ignored", "", reason)
    assert found["labelsTr/stranger.nii.gz"] == ("ignored", "", reason)
    assert found["labelsTr/liver_a.nii.gz"] == ("label", "liver_a", "")


def test_labels_of_no_scan_and_folders_of_masks(tmp_path: Path) -> None:
    image(tmp_path / "scans" / "a.nii.gz")
    for name in ("a", "b"):
        label(tmp_path / "labels" / f"{name}.nii.gz")
    options = PrepareOptions(spacing_mm=(3.0,) * 3, modality="ct", dry_run=True, labels=tmp_path / "labels")
    files = prepare(tmp_path / "scans", tmp_path / "s", options)["files"]
    assert {"file": "b.nii.gz", "what": "ignored", "case": "", "why": "a label map of no scan"} in files
    image(tmp_path / "t" / "s1" / "ct.nii.gz")
    label(tmp_path / "t" / "s1" / "segmentations" / "liver.nii.gz")
    assert taken_for(tmp_path / "t", tmp_path) == {
        "s1/ct.nii.gz": ("scan", "s1", ""),
        "s1/segmentations (a mask a structure)": ("label", "s1", ""),
    }


def test_the_table_is_in_json_and_comes_before_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(tmp_path / "d" / "a.nii")
    call = ["prepare", str(tmp_path / "d"), str(tmp_path / "s"), "--dry-run", "--json"]
    assert main(call) == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["file"] == "a.nii"
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "broken.nii").write_bytes(b"")
    assert main(["prepare", str(tmp_path / "e"), str(tmp_path / "s"), "--dry-run"]) == 2
    assert "broken.nii  refused: empty file" in capsys.readouterr().out
