"""Folders as nnU-Net, the Decathlon and people lay them out; lists of paths that lie or lead astray."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from dataset_folders import OPTIONS, image, label, nnunet
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_files import affine_of, head_like, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.sources.layouts import find_sources
from alice3d.data.store import Store
from alice3d.errors import UserError


def test_nnunet_raw(tmp_path: Path) -> None:
    prepare(nnunet(tmp_path / "Dataset001"), tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert [case.id for case in store.cases()] == ["liver_a", "liver_b", "liver_c", "liver_t"]
    assert store.label_names == {1: "liver"}
    assert {case.id: case.split for case in store.cases()} == {
        **dict.fromkeys(["liver_a", "liver_b", "liver_c"], "train"),
        "liver_t": "test",
    }
    assert store.case("liver_a").source == "imagesTr/liver_a_0000.nii.gz"
    assert store.case("liver_a").structures == (1,)


def test_nnunet_test_labels_make_the_test_split(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "Dataset001")
    label(folder / "labelsTs" / "liver_t.nii.gz")
    prepare(folder, tmp_path / "s", OPTIONS)
    assert [case.id for case in Store.open(tmp_path / "s").cases("test")] == ["liver_t"]


def test_values_that_dataset_json_does_not_name_are_refused(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "d")
    label(folder / "labelsTr" / "liver_b.nii.gz", 3)
    prepare(folder, tmp_path / "s", OPTIONS)
    assert Store.open(tmp_path / "s").refused[0][2] == "label value outside the declared classes: 3"


def test_several_channels_are_refused_by_name_or_chosen(tmp_path: Path) -> None:
    folder = nnunet(tmp_path / "d")
    image(folder / "imagesTr" / "liver_a_0001.nii.gz", seed=5)
    prepare(folder, tmp_path / "s", OPTIONS)
    assert Store.open(tmp_path / "s").refused[0][2].startswith("several channels: the case holds 0000, 0001")
    found = find_sources(folder, None, channel=1)
    assert [source.fault.split(":")[0] for source in found.sources] == ["", *["no channel 0001"] * 3]
    assert find_sources(folder, None, channel="CT").sources[0].name == "imagesTr/liver_a_0000.nii.gz"


def test_decathlon(tmp_path: Path) -> None:
    folder = tmp_path / "Task09"
    for name in ("x", "y"):
        image(folder / "imagesTr" / f"{name}.nii.gz")
        label(folder / "labelsTr" / f"{name}.nii.gz")
    image(folder / "imagesTs" / "z.nii.gz")
    training = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("x", "y")]
    content = {"labels": {"0": "background", "1": "spleen"}, "training": training, "test": ["./imagesTs/z.nii.gz"]}
    (folder / "dataset.json").write_text(json.dumps(content))
    for scans in (folder, folder / "dataset.json"):
        found = find_sources(scans, None)
        assert [(s.id, s.label_name) for s in found.sources] == [
            ("x", "labelsTr/x.nii.gz"),
            ("y", "labelsTr/y.nii.gz"),
            ("z", ""),
        ]
        assert found.label_names == {1: "spleen"}
    content["training"].append({"image": "../../etc/passwd.nii", "label": "./labelsTr/x.nii.gz"})
    (folder / "dataset.json").write_text(json.dumps(content))
    assert [s.fault.split(":")[0] for s in find_sources(folder, None).sources if s.fault] == ["path leaves its folder"]


@pytest.mark.parametrize("text", ["{", "[]", '{"training": [3]}', '{"training": [{"label": "x"}]}', '{"training": []}'])
def test_bad_dataset_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError):
        find_sources(tmp_path, None)


def test_images_and_labels_side_by_side(tmp_path: Path) -> None:
    image(tmp_path / "d" / "images" / "a.nii")
    label(tmp_path / "d" / "labels" / "a.nii")
    found = find_sources(tmp_path / "d", None)
    assert [(s.id, s.label is not None) for s in found.sources] == [("a", True)]


def test_csv_of_paths(tmp_path: Path) -> None:
    image(tmp_path / "p1" / "scan.nii")
    image(tmp_path / "p2" / "scan.nii", seed=1)
    label(tmp_path / "gt" / "one.nii")
    (tmp_path / "list.csv").write_text(
        f"Image,label,id,split\np1/scan.nii,gt/one.nii,one,train\n{tmp_path}/p2/scan.nii,,two,\ngone.nii,,three,val\n"
    )
    prepare(tmp_path / "list.csv", tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert [(case.id, case.split, case.labelled, case.source) for case in store.cases()] == [
        ("one", "train", True, "p1/scan.nii"),
        ("two", "", False, "p2/scan.nii"),
    ]
    assert store.refused == [("three", "gone.nii", "no such file")]


@pytest.mark.parametrize(
    "path",
    ["../out.nii", "/etc/x.nii", "a/../../out.nii", "p/../../../../../../etc/x.nii", "..", "~/../../x.nii.gz/../../.."],
)
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    image(tmp_path / "out.nii")
    folder = tmp_path / "in"
    image(folder / "fine.nii")
    (folder / "list.csv").write_text(f"image\nfine.nii\n{path}\n")
    faults = [source.fault for source in find_sources(folder / "list.csv", None).sources]
    assert sorted(fault.split(":")[0] for fault in faults) == ["", "path leaves its folder"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no column named image"),
        (b"a,b\n1,2\n", "no column named image; it holds a, b"),
        (b"image\n", "lists no scans"),
        (b"image,id\n,x\n", "line 2 has no image"),
        (b"image\n\xff\xfe\n", "not a readable CSV file"),
        (b'image\n"open\n', "not a readable CSV file"),
    ],
)
def test_bad_csv(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(UserError, match=words):
        find_sources(tmp_path / "list.csv", None)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: f"image,id\n{text}".encode("utf-8", "replace")))
@settings(max_examples=1000, deadline=None)
def test_damaged_csv_never_ends_in_a_traceback(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.csv"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        find_sources(path, None)


def test_odd_file_names(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    for name in (
        "with space",
        "\u00fcn\u00efc\u00f6de",
        "dots.in.name",
        "new\nline",
        "back\\slash",
        "-dash",
        "x" * 230,
    ):
        image(folder / f"{name}.nii")
    image(folder / ".hidden.nii")
    os.rename(folder / "-dash.nii", os.fsencode(folder) + b"/foreign\xff.nii")
    result = prepare(folder, tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert {case.id for case in store.cases()} == {"with space", "\u00fcn\u00efc\u00f6de", "dots.in.name"}
    assert result["reasons"] == {"bad case name": 4}
    assert all("\n" not in source for _, source, _ in store.refused)
    assert store.image("\u00fcn\u00efc\u00f6de").shape == store.case("\u00fcn\u00efc\u00f6de").shape


def test_loops_of_links_and_links_to_scans(tmp_path: Path) -> None:
    image(tmp_path / "elsewhere" / "linked.nii")
    folder = tmp_path / "scans"
    image(folder / "deep" / "a.nii")
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "self").symlink_to("self")
    (folder / "gone.nii").symlink_to(tmp_path / "nowhere.nii")
    (folder / "b.nii").symlink_to(tmp_path / "elsewhere" / "linked.nii")
    result = prepare(folder, tmp_path / "s", OPTIONS)
    assert (result["taken"], result["reasons"]) == (2, {"no such file": 1})


def test_names_that_differ_in_case_only_are_duplicates(tmp_path: Path) -> None:
    for name in ("A", "a", "b"):
        image(tmp_path / "scans" / f"{name}.nii")
    assert prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)["reasons"] == {"duplicate case name": 2}


def test_same_label_twice_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "scans" / f"{name}.nii")
        label(tmp_path / "labels" / f"{name}.nii")
    label(tmp_path / "labels" / "more" / "a.nii.gz")
    prepare(tmp_path / "scans", tmp_path / "s", PrepareOptions(spacing_mm=(3.0,) * 3, labels=tmp_path / "labels"))
    assert Store.open(tmp_path / "s").refused[0][2].startswith("duplicate label")


def test_anisotropy_of_one_to_twenty_is_taken(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scans" / "a.nii", head_like((60, 60, 6)), affine_of((0.5, 0.5, 10.0)))
    prepare(tmp_path / "scans", tmp_path / "s", PrepareOptions(modality="ct"))
    case = Store.open(tmp_path / "s").case("a")
    assert case.spacing_mm == (0.5, 0.5, 10.0)
