"""A scan as a file, an array, a tensor, a nibabel or a SimpleITK image gives one answer, in its own grid."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

import alice3d
from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.geometry import apply_affine
from alice3d.io.in_memory import as_label, as_volume
from alice3d.io.read import read_scan
from alice3d.io.volume import Volume
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.embedding import FPN3D
from alice3d.weights.files import save_weights

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to" / "from-python.md"
OPTIONS = {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1]}
CARD = {
    "backbone": {"name": "resunet", "options": OPTIONS, "in_channels": 2},
    "spacing_mm": [8.0, 8.0, 8.0],
    "intensity": {"modality": "ct", "windows": [[-200, 300], [-1000, 1000]]},
    "crop": 16,
    "cases": [],
}
QUICK = {"batch": 2, "crop": 16, "workers": 0, "threads": 1, "device": "cpu"}
FLIP = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(scope="module")
def oblique(tiny_scans) -> sitk.Image:
    """A generated patient who lies turned about two axes."""
    first = sorted(tiny_scans.images.glob("*.nii.gz"))[0]
    image = sitk.ReadImage(str(first))
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.15, 0.0, 0.25)
    turned = np.array(turn.GetMatrix()).reshape(3, 3) @ np.array(image.GetDirection()).reshape(3, 3)
    image.SetDirection(turned.ravel())
    return image


@pytest.fixture(scope="module")
def kinds(oblique, tmp_path_factory) -> dict[str, object]:
    """The same scan in every form."""
    file = tmp_path_factory.mktemp("oblique") / "scan.mha"
    sitk.WriteImage(oblique, str(file))
    volume = read_scan(file)
    lazy = file.with_name("scan.nii.gz")
    nib.save(nib.Nifti1Image(volume.array, volume.affine), lazy)
    return {
        "file": file,
        "text": str(file),
        "volume": volume,
        "array": (volume.array, volume.affine),
        "floats": (volume.array.astype(np.float64), volume.affine.tolist()),
        "tensor": (torch.from_numpy(volume.array), torch.from_numpy(volume.affine)),
        "nibabel": nib.Nifti1Image(volume.array, volume.affine),
        "nibabel-file": nib.load(lazy),
        "simpleitk": oblique,
    }


@pytest.fixture(scope="module")
def model_folder(tiny_store, tmp_path_factory) -> Path:
    """One solved layer on an untrained encoder: the quickest model there is."""
    folder = tmp_path_factory.mktemp("segmenter")
    torch.manual_seed(0)
    save_weights(folder / "encoder", "encoder", build_backbone("resunet", 2, OPTIONS).state_dict(), CARD)
    settings = {"head": "linear", "linear_voxels": 60, "linear_iterations": 8, **QUICK}
    return alice3d.finetune(tiny_store, folder / "model", encoder=folder / "encoder", labels=2, **settings).out


@pytest.fixture(scope="module")
def segmenter(model_folder) -> alice3d.Model:
    return alice3d.load_model(model_folder)


@pytest.fixture(scope="module")
def matcher() -> alice3d.Matcher:
    torch.manual_seed(0)
    network = FPN3D(build_backbone("resunet", 2, OPTIONS), fine_width=8, coarse_width=8)
    return alice3d.Matcher(network, {**CARD, "matching": {"mode": "direct"}}, "tiny")


def classifier(store, folder, *, points: bool) -> alice3d.Model:
    """Of whole scans, or of two points in each."""
    folder.mkdir()
    with (folder / "classes.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["case", *(("x_mm", "y_mm", "z_mm") if points else ()), "class"])
        for number, case in enumerate(Store.open(store).cases("train")):
            middle = np.mean(case.body_box_mm, axis=0)
            for side in (-1, 1) if points else (1,):
                where = list(middle + np.array([side * 30, 0, 0])) if points else []
                table.writerow([case.id, *where, ("left", "right")[(side > 0 if points else number) % 2]])
    settings = {"task": "classification", "classes": folder / "classes.csv", "backbone_options": OPTIONS, "steps": 2}
    return alice3d.finetune(store, folder / "model", **settings, **QUICK).model()


def test_simpleitk_voxels_lie_where_simpleitk_says(oblique):
    volume = as_volume(oblique)
    assert volume.array.shape == oblique.GetSize()
    for index in ((0, 0, 0), (5, 11, 23), (20, 3, 40)):
        lps = np.array(oblique.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(apply_affine(volume.affine, np.array(index)), lps * FLIP, atol=1e-9)
        assert volume.array[index] == oblique[index]


def test_every_kind_of_scan_is_one_volume(kinds):
    expected = as_volume(kinds["file"])
    for name, scan in kinds.items():
        volume = as_volume(scan)
        np.testing.assert_array_equal(volume.array, expected.array, err_msg=name)
        np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-4, err_msg=name)


def test_every_kind_of_scan_is_segmented_alike(kinds, segmenter):
    expected = segmenter.predict(kinds["file"], device="cpu")
    assert len(np.unique(expected.array)) > 2
    assert expected.array.shape == kinds["volume"].array.shape
    np.testing.assert_array_equal(expected.affine, kinds["volume"].affine)
    for name in ("array", "floats", "tensor", "nibabel", "simpleitk"):
        made = alice3d.predict(segmenter, kinds[name], device="cpu")
        np.testing.assert_array_equal(made.array, expected.array, err_msg=name)
        np.testing.assert_allclose(made.affine, expected.affine, atol=1e-9)
    assert set(np.unique(expected.array)) <= {0, *expected.names}


def test_a_label_map_goes_back_to_simpleitk_and_to_a_file(oblique, segmenter, tmp_path):
    made = segmenter.predict(oblique, device="cpu")
    labels = sitk.GetImageFromArray(made.array.transpose())
    labels.CopyInformation(oblique)
    index = tuple(int(n) for n in np.argwhere(made.array)[0])
    assert labels[index] == made.array[index]
    made.save(tmp_path / "labels.nii.gz")
    kept = nib.load(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(kept.dataobj), made.array)
    np.testing.assert_allclose(kept.affine, made.affine, atol=1e-4)
    with pytest.raises(UserError, match=r"ends in \.nii or"):
        made.save(tmp_path / "labels.mha")


@pytest.mark.skipif(not HOW_TO.is_file(), reason="the tests run outside a checkout")
def test_the_how_to_predicts(kinds, model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(model_folder)
    sitk.WriteImage(kinds["simpleitk"], "scan.mha")
    nib.save(kinds["nibabel"], "scan.nii.gz")
    text = HOW_TO.read_text(encoding="utf-8")
    expected = None
    for body in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if "predict" in body:
            names: dict = {}
            exec(body, names)
            expected = names["labels"].array if expected is None else expected
            np.testing.assert_array_equal(names["labels"].array, expected)
    assert expected is not None
    assert (tmp_path / "labels.nii.gz").is_file()


def test_every_kind_of_scan_is_embedded_and_matched_alike(kinds, matcher):
    expected = alice3d.embed(matcher, kinds["file"])
    point = np.mean(expected.body_box_mm, axis=0)
    found = alice3d.match(matcher, expected, expected, [point]).point_mm
    for name in ("array", "tensor", "nibabel", "simpleitk"):
        made = alice3d.embed(matcher, kinds[name])
        assert torch.equal(made.fine, expected.fine), name
        assert torch.equal(made.coarse, expected.coarse), name
        np.testing.assert_array_equal(alice3d.match(matcher, kinds[name], kinds["file"], [point]).point_mm, found)


def test_classes_of_scans_and_of_points(tiny_store, kinds, segmenter, tmp_path):
    whole = classifier(tiny_store, tmp_path / "whole", points=False)
    scores = alice3d.predict(whole, kinds["simpleitk"], device="cpu")
    np.testing.assert_array_equal(scores.probabilities, whole.predict(kinds["file"], device="cpu").probabilities)
    assert scores.probabilities.shape == (1, 2)
    assert scores.probabilities.sum() == pytest.approx(1)
    assert scores.predicted[0] in scores.classes == ("left", "right")
    pointed = classifier(tiny_store, tmp_path / "pointed", points=True)
    case = Store.open(tiny_store).cases("train")[0]
    middle = np.mean(case.body_box_mm, axis=0)
    stored = Volume(Store.open(tiny_store).image(case.id)[:, :, :], case.grid.affine)
    scores = pointed.predict(stored, points_mm=[middle, middle + np.array([20, 0, 0])], device="cpu")
    assert scores.probabilities.shape == (2, 2)
    for model, points, message in (
        (pointed, None, r"are needed; the model classifies points"),
        (pointed, [[1, 2]], "has shape"),
        (pointed, [[9999, 0, 0]], "lies outside the body"),
        (whole, [[0, 0, 0]], "classifies whole scans"),
        (segmenter, [[0, 0, 0]], "segments whole scans"),
    ):
        with pytest.raises(UserError, match=message):
            alice3d.predict(model, stored, points_mm=points)


def test_labels_are_taken_in_every_form(kinds):
    array = (kinds["volume"].array > 0)[..., None]
    label = as_label((array, kinds["volume"].affine))
    assert label.array.dtype == np.uint8
    np.testing.assert_array_equal(label.array, array[..., 0])
    with pytest.raises(UserError, match="not integers"):
        as_label((np.full((3, 3, 3), 0.5), np.eye(4)))
    with pytest.raises(UserError, match="out of range"):
        as_label(nib.Nifti1Image(np.full((3, 3, 3), -1, np.int16), np.eye(4)))


VOXELS = np.arange(27, dtype=np.int16).reshape(3, 3, 3)


def headless() -> nib.Nifti1Image:
    image = nib.Nifti1Image(VOXELS, np.eye(4))
    image.set_sform(np.eye(4), code=0)
    image.set_qform(np.eye(4), code=0)
    return image


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        (VOXELS, r"an array needs its affine: give \(array, affine\)"),
        (torch.zeros(3, 3, 3), "needs its affine"),
        (7, "a nibabel or a SimpleITK image is needed, got int"),
        ("missing.nii.gz", "no such file"),
        ((VOXELS, np.eye(3)), "bad affine"),
        ((VOXELS * 1j, np.eye(4)), "unsupported voxel type: complex"),
        ((torch.zeros(3, 3, 3, dtype=torch.bfloat16), np.eye(4)), "unsupported voxel type"),
        ((np.zeros((3, 3, 3)), np.eye(4)), "constant voxels"),
        (nib.Nifti1Image(VOXELS, None), "no orientation"),
        (headless(), "no orientation: neither sform nor qform"),
        (nib.Nifti1Image(np.zeros((3, 3, 3, 2)), np.eye(4)), "holds 2 volumes"),
        (sitk.Image(4, 4, sitk.sitkInt16), "2D image"),
        (sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3), "3 values per voxel"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_scan_is_refused(scan, message):
    with pytest.raises(UserError, match=message):
        as_volume(scan)


def test_an_image_of_a_simpleitk_that_is_gone(oblique, monkeypatch):
    monkeypatch.delitem(sys.modules, "SimpleITK")
    with pytest.raises(UserError, match="SimpleITK is not loaded"):
        as_volume(oblique)


def test_units_of_a_nibabel_header_count(tmp_path):
    image = nib.Nifti1Image(VOXELS, np.diag([0.002, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "metres.nii")
    np.testing.assert_allclose(as_volume(image).affine, read_scan(tmp_path / "metres.nii").affine, rtol=1e-6)
    assert as_volume(image).affine[2, 2] == pytest.approx(3)
