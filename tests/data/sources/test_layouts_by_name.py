"""Layouts whose names pair scans with labels: LiTS, BraTS, BIDS, TotalSegmentator, KiTS and `case_seg`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_folders import OPTIONS, image, label
from scan_files import affine_of, head_like, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.sources.layouts import find_sources
from alice3d.data.sources.sources import Found
from alice3d.data.store import Store
from alice3d.errors import UserError


def pairs(found: Found) -> dict[str, tuple[str, str]]:
    """Case to the names of its scan and of its label."""
    assert not any(source.fault for source in found.sources), found.sources
    return {source.id: (source.name, source.label_name) for source in found.sources}


def mr(path: Path, seed: int = 0) -> Path:
    return write_nifti(path, np.clip(head_like(seed=seed).astype(int) + 900, 0, None).astype(np.int16))


def test_lits_in_one_folder_and_in_two(tmp_path: Path) -> None:
    for number in (0, 10):
        image(tmp_path / "one" / f"volume-{number}.nii")
        label(tmp_path / "one" / f"segmentation-{number}.nii")
        image(tmp_path / "two" / "volumes" / f"volume-{number}.nii")
        label(tmp_path / "two" / "segmentations" / f"segmentation-{number}.nii")
    image(tmp_path / "one" / "volume-7.nii")
    found = find_sources(tmp_path / "one", None)
    assert found.layout.startswith("LiTS")
    assert pairs(found) == {
        "volume-0": ("volume-0.nii", "segmentation-0.nii"),
        "volume-10": ("volume-10.nii", "segmentation-10.nii"),
        "volume-7": ("volume-7.nii", ""),
    }
    assert pairs(find_sources(tmp_path / "two", None))["volume-10"] == (
        "volumes/volume-10.nii",
        "segmentations/segmentation-10.nii",
    )


def test_test_volumes_of_lits_are_the_test_split(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / f"volume-{number}.nii")
        label(tmp_path / f"segmentation-{number}.nii")
        image(tmp_path / f"test-volume-{number}.nii")
    splits = {source.id: (source.split, source.label is not None) for source in find_sources(tmp_path, None).sources}
    for number in range(3):
        assert splits[f"volume-{number}"] == ("train", True)
        assert splits[f"test-volume-{number}"] == ("test", False)


@pytest.mark.parametrize("form", ["BraTS2021_{:05d}/BraTS2021_{:05d}_{}", "c{:03d}/BraTS-GLI-{:05d}-000-{}"])
def test_a_sequence_of_brats_is_chosen_by_its_name(tmp_path: Path, form: str) -> None:
    names = ("t1n", "t1c", "t2w", "t2f") if "GLI" in form else ("t1", "t1ce", "t2", "flair")
    for case in (1, 2):
        for sequence in names:
            mr(tmp_path / (form.format(case, case, sequence) + ".nii.gz"))
        label(tmp_path / (form.format(case, case, "seg") + ".nii.gz"))
    faults = [source.fault for source in find_sources(tmp_path, None).sources]
    assert faults == ["several channels: the case holds flair, t1, t1ce, t2; choose one by --channel"] * 2
    for channel, position in (("t1", 0), ("t1ce", 1), ("T2", 2), ("flair", 3), (names[3], 3)):
        found = pairs(find_sources(tmp_path, None, channel=channel))
        assert len(found) == 2
        for scan, its in found.values():
            assert scan.endswith(f"{names[position]}.nii.gz")
            assert its.endswith("seg.nii.gz")
    assert find_sources(tmp_path, None, channel="dwi").sources[0].fault.startswith("no channel dwi: the case holds")


def test_time_points_of_brats_are_of_one_patient(tmp_path: Path) -> None:
    for point in ("000", "001"):
        mr(tmp_path / f"BraTS-GLI-00005-{point}-t1c.nii.gz")
        label(tmp_path / f"BraTS-GLI-00005-{point}-seg.nii.gz")
    assert {source.patient for source in find_sources(tmp_path, None).sources} == {"BraTS-GLI-00005"}


@pytest.mark.parametrize("ending", ["_seg", "-label", "_segmentation", "_mask", "_dseg", ".labels"])
def test_a_label_beside_its_scan(tmp_path: Path, ending: str) -> None:
    for name in ("p1", "p2"):
        image(tmp_path / "deep" / f"{name}.nii.gz")
        label(tmp_path / "deep" / f"{name}{ending}.nii.gz")
    assert pairs(find_sources(tmp_path, None)) == {
        name: (f"deep/{name}.nii.gz", f"deep/{name}{ending}.nii.gz") for name in ("p1", "p2")
    }


def test_bids_with_derivatives(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    derived = tmp_path / "derivatives" / "tool"
    for subject in ("sub-01", "sub-02"):
        for session in ("ses-a", "ses-b"):
            name = f"{subject}_{session}"
            mr(tmp_path / subject / session / "anat" / f"{name}_T1w.nii.gz")
            mr(tmp_path / subject / session / "anat" / f"{name}_FLAIR.nii.gz")
            place = derived / subject / session / "anat"
            label(place / f"{name}_space-T1w_desc-organs_dseg.nii.gz")
            mr(place / f"{name}_desc-preproc_T1w.nii.gz")
            write_nifti(place / f"{name}_label-GM_probseg.nii.gz", head_like().astype(np.float32))
    (derived / "desc-organs_dseg.tsv").write_text("index\tname\n0\tbackground\n1\tliver\n")
    found = find_sources(tmp_path, None)
    kept = pairs(found)
    assert len(kept) == 8
    assert kept["sub-02_ses-a_T1w"] == (
        "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
        "derivatives/tool/sub-02/ses-a/anat/sub-02_ses-a_space-T1w_desc-organs_dseg.nii.gz",
    )
    assert kept["sub-02_ses-a_FLAIR"][1] == ""
    assert {source.patient for source in found.sources} == {"01", "02"}
    assert found.label_names == {1: "liver"}
    why = {path.name: text for path, text in found.left_out.items()}
    assert why["sub-01_ses-a_desc-preproc_T1w.nii.gz"] == "a derivative of a scan"
    assert why["sub-01_ses-a_label-GM_probseg.nii.gz"] == "probabilities of a segmentation"
    assert len(find_sources(tmp_path, None, channel="T1w").sources) == 4


def test_a_bids_label_of_one_of_several_scans_is_left_out_and_told(tmp_path: Path) -> None:
    for kind in ("T1w", "T2w"):
        mr(tmp_path / "sub-1" / "anat" / f"sub-1_{kind}.nii.gz")
    label(tmp_path / "sub-1" / "anat" / "sub-1_dseg.nii.gz")
    found = find_sources(tmp_path, None)
    assert [source.label for source in found.sources] == [None, None]
    assert any("could be of several scans" in text for text in found.warnings)
    assert pairs(find_sources(tmp_path, None, channel="T2w")) == {
        "sub-1_T2w": ("sub-1/anat/sub-1_T2w.nii.gz", "sub-1/anat/sub-1_dseg.nii.gz")
    }


def masks(folder: Path, **boxes: tuple[int, int]) -> None:
    for name, (low, high) in boxes.items():
        mask = np.zeros(head_like().shape, np.uint8)
        mask[6:18, 6:18, low:high] = 1
        write_nifti(folder / f"{name}.nii.gz", mask)


def totalsegmentator(folder: Path) -> Path:
    """Two cases; `spleen` is missing in the first, and the files are in another order of the alphabet than of size."""
    image(folder / "s0001" / "ct.nii.gz")
    masks(folder / "s0001" / "segmentations", liver=(2, 8), aorta=(10, 12))
    image(folder / "s0002" / "ct.nii.gz", seed=1)
    masks(folder / "s0002" / "segmentations", liver=(2, 8), aorta=(0, 0), spleen=(12, 16))
    image(folder / "s0003" / "ct.nii.gz", seed=2)
    return folder


def test_masks_of_totalsegmentator_are_joined_by_name(tmp_path: Path) -> None:
    prepare(totalsegmentator(tmp_path / "t"), tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert store.refused == []
    assert store.spec.label_names == {1: "aorta", 2: "liver", 3: "spleen"}
    assert {case.id: case.structures for case in store.cases()} == {"s0001": (1, 2), "s0002": (2, 3), "s0003": ()}
    label, grid = store.label("s0002")[:, :, :], store.case("s0002").grid
    liver, spleen = (grid.world(np.argwhere(label == value).mean(axis=0))[2] for value in (2, 3))
    assert spleen - liver == pytest.approx((13.5 - 4.5) * 2.5, abs=1.5)


def test_masks_that_changed_are_read_again(tmp_path: Path) -> None:
    folder = totalsegmentator(tmp_path / "t")
    prepare(folder, tmp_path / "s", OPTIONS)
    masks(folder / "s0001" / "segmentations", spleen=(14, 18))
    assert prepare(folder, tmp_path / "s", OPTIONS)["added"] == 1
    assert Store.open(tmp_path / "s").case("s0001").structures == (1, 2, 3)


def test_splits_of_totalsegmentator_are_read(tmp_path: Path) -> None:
    folder = totalsegmentator(tmp_path / "t")
    (folder / "meta.csv").write_text("image_id;age;split\ns0001;61;train\ns0002;60;test\ns0003;59;val\n")
    found = find_sources(folder, None)
    assert {source.id: source.split for source in found.sources} == {"s0001": "train", "s0002": "test", "s0003": "val"}


def test_a_mask_of_another_grid_or_several_values_is_refused(tmp_path: Path) -> None:
    folder = totalsegmentator(tmp_path / "t")
    write_nifti(
        folder / "s0001" / "segmentations" / "liver.nii.gz", np.ones((5, 5, 5), np.uint8), affine_of(spacing=(3, 3, 3))
    )
    several = np.zeros(head_like().shape, np.uint8)
    several[3:6], several[8:9] = 1, 2
    write_nifti(folder / "s0002" / "segmentations" / "liver.nii.gz", several)
    prepare(folder, tmp_path / "s", OPTIONS)
    reasons = {id: reason for id, _, reason in Store.open(tmp_path / "s").refused}
    assert reasons["s0001"].startswith("label on another grid")
    assert reasons["s0002"].startswith("label several values")


def test_kits(tmp_path: Path) -> None:
    for case in ("case_00000", "case_00001"):
        image(tmp_path / case / "imaging.nii.gz")
        label(tmp_path / case / "segmentation.nii.gz")
        label(tmp_path / case / "aggregated_AND_seg.nii.gz")
        label(tmp_path / case / "instances" / "kidney_instance-1_annotation-1.nii.gz")
    image(tmp_path / "case_00002" / "imaging.nii.gz")
    found = find_sources(tmp_path, None)
    assert found.layout.startswith("KiTS")
    assert pairs(found) == {
        **{c: (f"{c}/imaging.nii.gz", f"{c}/segmentation.nii.gz") for c in ("case_00000", "case_00001")},
        "case_00002": ("case_00002/imaging.nii.gz", ""),
    }
    assert len(found.left_out) == 4


@pytest.mark.parametrize("modality", ["ct", "mr", "auto"])
def test_label_maps_without_a_scan_are_refused(tmp_path: Path, modality: Any) -> None:
    many = np.kron(np.arange(60).reshape(3, 4, 5), np.ones((8, 7, 4)))[:24, :26, :20]
    for name in ("a", "b", "c"):
        (image if modality == "ct" else mr)(tmp_path / "d" / f"{name}.nii.gz")
    for number, values in enumerate((head_like() > 500, many)):
        for copy in "xyz":
            write_nifti(tmp_path / "d" / f"atlas{number}{copy}.nii.gz", values.astype(np.float32))
    prepare(tmp_path / "d", tmp_path / "s", PrepareOptions(spacing_mm=(3.0,) * 3, modality=modality))
    store = Store.open(tmp_path / "s")
    assert [case.id for case in store.cases()] == ["a", "b", "c"]
    assert {reason.split(":")[0] for _, _, reason in store.refused} == {"label map, not a scan"}
    assert store.spec.modality == ("ct" if modality == "ct" else "mr")


def test_lists_of_monai_are_the_splits(tmp_path: Path) -> None:
    def entry(number: int) -> dict[str, str]:
        image(tmp_path / f"i{number}.nii.gz", seed=number)
        label(tmp_path / f"l{number}.nii.gz")
        return {"image": f"i{number}.nii.gz", "label": f"l{number}.nii.gz"}

    content = {
        "training": [entry(n) for n in range(4)],
        "val": [entry(4)],
        "testing": [entry(5), entry(6)["image"]],
        "spare": [entry(7)],
    }
    (tmp_path / "dataset_0.json").write_text(json.dumps(content))
    found = find_sources(tmp_path / "dataset_0.json", None)
    assert {source.id: source.split for source in found.sources} == {
        **dict.fromkeys(["i0", "i1", "i2", "i3"], "train"),
        "i4": "val",
        **dict.fromkeys(["i5", "i6"], "test"),
    }
    assert found.warnings == ["dataset_0.json: the list 'spare' is not read; training, validation and test are"]
    prepare(tmp_path / "dataset_0.json", tmp_path / "s", OPTIONS)
    # the same scans, and one more, added later from a plain folder
    image(tmp_path / "i8.nii.gz", seed=8)
    for number in range(8):
        (tmp_path / f"l{number}.nii.gz").unlink()
    prepare(tmp_path, tmp_path / "s", OPTIONS)
    splits = {case.id: case.split for case in Store.open(tmp_path / "s").cases()}
    assert splits["i5"] == splits["i6"] == "test"
    assert splits["i4"] == "val"
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(UserError, match="lists no scans"):
        find_sources(tmp_path / "empty.json", None)


def test_images_of_several_channels_in_a_list(tmp_path: Path) -> None:
    for name in ("a_t1", "a_t2"):
        mr(tmp_path / f"{name}.nii.gz")
    label(tmp_path / "a_l.nii.gz")
    entry = {"image": ["a_t1.nii.gz", "a_t2.nii.gz"], "label": "a_l.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [entry], "modality": {"0": "T1", "1": "T2"}}))
    assert find_sources(tmp_path, None).sources[0].fault.startswith("several channels")
    for channel in ("1", "T2", "t2w"):
        assert [source.name for source in find_sources(tmp_path, None, channel=channel).sources] == ["a_t2.nii.gz"]


def test_four_digits_of_a_case_are_no_channel(tmp_path: Path) -> None:
    for number in (1, 4, 500):
        image(tmp_path / "imagesTr" / f"amos_{number:04d}.nii.gz", seed=number)
        label(tmp_path / "labelsTr" / f"amos_{number:04d}.nii.gz")
    image(tmp_path / "imagesVa" / "amos_0008.nii.gz")
    label(tmp_path / "labelsVa" / "amos_0008.nii.gz")
    image(tmp_path / "imagesTs" / "amos_0009.nii.gz")
    found = find_sources(tmp_path, None)
    assert {source.id: (source.split, source.label is not None) for source in found.sources} == {
        **{f"amos_{number:04d}": ("train", True) for number in (1, 4, 500)},
        "amos_0008": ("val", True),
        "amos_0009": ("test", False),
    }


def test_the_dataset_key_of_nnunet(tmp_path: Path) -> None:
    image(tmp_path / "data" / "x.nii.gz")
    label(tmp_path / "data" / "y.nii.gz")
    entry = {"images": ["data/x.nii.gz"], "label": "data/y.nii.gz"}
    content = {"labels": {"background": 0, "liver": 1}, "dataset": {"case": entry}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = find_sources(tmp_path, None)
    assert pairs(found) == {"case": ("data/x.nii.gz", "data/y.nii.gz")}
    assert found.label_names == {1: "liver"}
