"""Scans that commands read without a store: names of outputs, label maps left out, files without orientation."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dataset_folders import image, label
from scan_files import head_like, write_nifti

from alice3d.data.sources.scan_list import ScanList, find_scans, readable
from alice3d.io.volume import ScanError


def test_files_of_one_name_in_many_folders_are_scans_of_their_own(tmp_path: Path) -> None:
    for name in ("s1", "s2"):
        image(tmp_path / name / "ct.nii.gz")
    found = find_scans([tmp_path])
    assert sorted(found) == ["s1/ct.nii.gz", "s2/ct.nii.gz"]
    assert not any(source.fault for source in found.values())
    assert ScanList.of([tmp_path]).ids == ("s1_ct", "s2_ct")


def test_scans_that_would_be_written_under_one_name_are_refused_by_name(tmp_path: Path) -> None:
    scan = image(tmp_path / "a" / "m.nii.gz")
    image(tmp_path / "a" / "fine.nii.gz")
    image(tmp_path / "a" / "m.hdr")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    refused: dict[str, str] = {}
    kept = readable(find_scans([tmp_path / "a", scan]), refused)
    assert list(kept) == ["fine.nii.gz"]
    assert len(refused) == 2
    assert all("two scans would be written as m.nii.gz" in reason for reason in refused.values())
    refused.clear()
    assert not readable(find_scans([tmp_path / "a" / "fine.nii.gz", tmp_path / "b" / "fine.nii.gz"]), refused)
    assert len(refused) == 2
    assert list(find_scans([scan, scan])) == ["m.nii.gz"]


def test_label_maps_of_layouts_are_no_scans(tmp_path: Path) -> None:
    image(tmp_path / "s1" / "ct.nii.gz")
    for name in ("liver", "spleen"):
        label(tmp_path / "s1" / "segmentations" / f"{name}.nii.gz")
    for sequence in ("t1", "t2"):
        image(tmp_path / "p" / f"p_{sequence}.nii.gz")
    label(tmp_path / "p" / "p_seg.nii.gz")
    assert sorted(find_scans([tmp_path])) == ["p/p_t1.nii.gz", "p/p_t2.nii.gz", "s1/ct.nii.gz"]
    scans = ScanList.of([tmp_path])
    assert len(scans.ids) == 3
    assert scans.warnings[0].startswith("3 label maps and other files")


def test_a_duplicate_is_told_what_can_be_done_without_a_store(tmp_path: Path) -> None:
    image(tmp_path / "m.nii.gz")
    image(tmp_path / "m.nii")
    source = ScanList.of([tmp_path]).sources["m"]
    assert source.fault.startswith("duplicate case name")
    assert "CSV" not in source.fault


def test_files_without_orientation_are_read_as_stated(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", head_like(), codes=(0, 0))
    with pytest.raises(ScanError, match="give --unoriented"):
        ScanList.of([path]).volume("a")
    assert ScanList.of([path], unoriented="las").volume("a").affine[0, 0] < 0
    refused: dict[str, str] = {}
    assert not readable(find_scans([path]), refused)
    assert list(readable(find_scans([path]), refused, "ras")) == ["a.nii"]
