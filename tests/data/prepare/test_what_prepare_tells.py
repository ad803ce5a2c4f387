"""What `alice prepare` says before and after its work: true reasons, dry runs that predict, notes on modality."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_folders import image, nnunet
from dicom_files import write_series
from scan_files import affine_of, head_like, write_nifti

from alice3d.cli import main
from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.errors import UserError

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")


def channels(folder: Path) -> Path:
    for name in ("a", "b", "c", "t"):
        image(nnunet(folder) / f"images{'Ts' if name == 't' else 'Tr'}" / f"liver_{name}_0001.nii.gz")
    return folder


def csv(folder: Path, *lines: str) -> Path:
    folder.mkdir()
    (folder / "list.csv").write_text("\n".join(["image", *lines, ""]))
    return folder / "list.csv"


@pytest.mark.parametrize("settings", [PrepareOptions(), replace(OPTIONS, modality="auto"), OPTIONS])
@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (channels, "imagesTr/liver_a_0000.nii.gz: several channels: the case holds 0000, 0001"),
        (lambda folder: csv(folder, "x.nii", "y.nii"), "x.nii: no such file"),
        (lambda folder: csv(folder, "../x.nii", "../y.nii", "z.nii"), "x.nii: path leaves its folder: .*list"),
    ],
    ids=["channels", "missing", "outside"],
)
def test_the_true_reason_is_told_where_no_scan_can_be_taken(
    tmp_path: Path, make: Callable[[Path], Path], reason: str, settings: PrepareOptions, dry_run: bool
) -> None:
    scans = make(tmp_path / "in")
    with pytest.raises(UserError, match=f"none of the .*; the first: {reason}"):
        prepare(scans, tmp_path / "s", replace(settings, dry_run=dry_run))


def test_a_dry_run_ends_as_the_call_would(scans: Scans, tmp_path: Path) -> None:
    bad = write_nifti(tmp_path / "bad" / "c.nii", np.zeros((4, 4), np.int16)).parent
    call = ["prepare", str(bad), str(tmp_path / "s"), "--spacing", "3", "--modality", "ct"]
    assert main([*call, "--dry-run"]) == main(call) == 2
    prepare(scans("a"), tmp_path / "filled", OPTIONS)
    call[2] = str(tmp_path / "filled")
    assert main([*call, "--dry-run"]) == main(call) == 0


def test_a_dry_run_compares_the_grids_of_labels(
    scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = scans("a", "b", labels=True)
    aside = affine_of(origin=(-19.0, 10.0, 30.0))  # half a voxel
    write_nifti(tmp_path / "labels" / "b.nii.gz", np.ones((24, 26, 19), np.uint8), aside)
    options = replace(OPTIONS, labels=tmp_path / "labels")
    result = prepare(folder, tmp_path / "s", replace(options, dry_run=True))
    assert (result["taken"], result["reasons"]) == (1, {"label on another grid": 1})
    assert "b.nii.gz  refused: label on another grid: 24x26x19" in capsys.readouterr().out
    assert prepare(folder, tmp_path / "s", options)["reasons"] == result["reasons"]


def test_slices_changed_in_a_listed_folder_are_noticed(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "p" / "ct", head_like((12, 14, 6)), affine_of(axes="LPS"))
    (tmp_path / "p" / "list.csv").write_text("image\nct\n")
    assert prepare(tmp_path / "p" / "list.csv", tmp_path / "s", OPTIONS)["added"] == 1
    assert prepare(tmp_path / "p" / "list.csv", tmp_path / "s", OPTIONS)["added"] == 0
    later = paths[2].stat().st_mtime_ns + 10**9
    os.utime(paths[2], ns=(later, later))
    assert prepare(tmp_path / "p" / "list.csv", tmp_path / "s", OPTIONS)["added"] == 1


def test_scans_of_another_modality_than_their_store_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans, lps = tmp_path / "scans", affine_of(axes="LPS")
    write_nifti(scans / "hu.nii", head_like())
    write_nifti(scans / "mr.nii", head_like(seed=1).clip(0))
    write_series(scans / "dicom", head_like(seed=2).clip(0), lps, modality="CT", intercept=0)
    prepare(scans, tmp_path / "mr", replace(OPTIONS, modality="mr"))
    notes = {case.id: case.notes for case in Store.open(tmp_path / "mr").cases()}
    assert notes == {
        "hu": "its values look like Hounsfield units, the store is MR",
        "mr": "",
        "dicom": "its DICOM header says CT, the store is MR",
    }
    assert "note: its values look like Hounsfield units, the store is MR (1)\n" in capsys.readouterr().out
    write_series(tmp_path / "in_ct" / "dicom", head_like(seed=2), lps, modality="MR")
    prepare(tmp_path / "in_ct", tmp_path / "ct", OPTIONS)
    assert Store.open(tmp_path / "ct").cases()[0].notes == "its DICOM header says MR, the store is CT"


def test_windows_are_refused_for_mr(tmp_path: Path) -> None:
    scans = write_nifti(tmp_path / "scans" / "a.nii", np.abs(head_like())).parent
    windowed = PrepareOptions(windows=((-200.0, 300.0),))
    for options in (windowed, replace(windowed, modality="mr")):
        with pytest.raises(UserError, match="windows: are CT windows in HU, and the store is MR"):
            prepare(scans, tmp_path / "s", options)
    prepare(scans, tmp_path / "s")
    with pytest.raises(UserError, match="windows: are CT windows in HU, and the store is MR"):
        prepare(scans, tmp_path / "s", windowed)
