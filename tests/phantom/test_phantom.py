"""Generated patients: invertible, in true correspondence, labelled where the anatomy is, reproducible."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alice3d.phantom.files import write_phantoms
from alice3d.phantom.patient import LABEL_NAMES, Phantom, correspond, make_phantom

COARSE_MM = (7.0, 8.0)


def draw(number: int) -> Phantom:
    return make_phantom(np.random.default_rng([7, number]), name=f"p{number}", spacing_mm=COARSE_MM)


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return [draw(number) for number in range(4)]


def label_at(phantom: Phantom, points_mm: np.ndarray) -> np.ndarray:
    index = np.clip(np.rint(phantom.grid.index(points_mm)).astype(int), 0, np.array(phantom.labels.shape) - 1)
    return phantom.labels[tuple(index.T)]


def test_deformation_is_inverted_within_a_thousandth_of_a_millimetre(phantoms: list[Phantom]) -> None:
    points = np.random.default_rng(0).uniform([-180, -120, -240], [180, 120, 240], (2000, 3))
    for phantom in phantoms:
        assert np.abs(phantom.to_template(phantom.from_template(points)) - points).max() < 1e-3
        step = 0.5 * np.eye(3)
        jacobian = (phantom.to_template(points[:, None] + step) - phantom.to_template(points)[:, None]) / 0.5
        assert np.linalg.det(jacobian).min() > 0.05  # nothing folds


def test_steepness_bounds_the_displacement(phantoms: list[Phantom]) -> None:
    rng = np.random.default_rng(1)
    for phantom in phantoms:
        deformation = phantom.deformation
        a = deformation.lattice.centre_mm + rng.uniform(-350, 350, (4000, 3))
        b = a + rng.normal(0, 10, a.shape)
        change = np.linalg.norm(deformation.displacement(a) - deformation.displacement(b), axis=1)
        assert (change <= deformation.steepness * np.linalg.norm(a - b, axis=1) + 1e-9).all()
        assert deformation.steepness <= 0.95 + 1e-9


def test_field_on_axes_equals_field_at_points(phantoms: list[Phantom]) -> None:
    deformation = phantoms[0].deformation
    axes = tuple(deformation.lattice.centre_mm[i] + np.linspace(-400, 400, 9) for i in range(3))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    expected = np.moveaxis(deformation.displacement(points), -1, 0)
    np.testing.assert_allclose(deformation.displacement_on(axes), expected, atol=1e-3)


def test_correspondence_carries_labels_and_is_its_own_inverse(phantoms: list[Phantom]) -> None:
    query, key = phantoms[0], phantoms[1]
    index = np.argwhere((query.labels > 0) & (query.labels < 14))[::23]
    points = query.grid.world(index)
    there = correspond(query, key, points)
    np.testing.assert_allclose(correspond(key, query, there), points, atol=1e-3)
    seen = key.grid.contains(there)
    same = label_at(key, there[seen]) == query.labels[tuple(index[seen].T)]
    assert seen.mean() > 0.5
    assert same.mean() > 0.8  # the rest are voxels that an organ's surface crosses


def test_patients_differ_in_place_size_and_view(phantoms: list[Phantom]) -> None:
    centres = np.array([p.landmarks_mm["liver"] - p.landmarks_mm["heart"] for p in phantoms])
    assert centres.std(axis=0).max() > 5
    assert len({p.image.shape for p in phantoms}) == len(phantoms)
    assert len({tuple(np.sign(p.grid.affine[:3, :3]).ravel()) for p in phantoms}) > 1
    volumes = np.array([(p.labels == 4).sum() * np.prod(p.grid.spacing_mm) for p in phantoms])
    assert volumes.std() / volumes.mean() > 0.04


def test_landmarks_lie_on_their_organs_and_sides(phantoms: list[Phantom]) -> None:
    values = {name: value for value, name in LABEL_NAMES.items()}
    for phantom in phantoms:
        for name in ("liver", "spleen", "heart", "lung_right", "lung_left", "kidney_right", "kidney_left"):
            if name in phantom.landmarks_mm:
                assert label_at(phantom, phantom.landmarks_mm[name][None])[0] == values[name]
        marks = phantom.landmarks_mm
        assert marks["lung_right"][0] > marks["lung_left"][0] + 60  # RAS: x grows towards the patient's right
        assert marks["liver"][0] > marks["heart"][0] + 20
        assert marks["heart"][2] > marks["liver"][2]


def test_anatomy_is_not_symmetric(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        where = phantom.grid.world(np.argwhere(phantom.labels == 4))
        middle = phantom.grid.world(np.argwhere(phantom.labels > 0)).mean(axis=0)
        assert (where[:, 0] > middle[0]).mean() > 0.8  # the liver is on the right


def test_hounsfield_units_are_those_of_ct(phantoms: list[Phantom]) -> None:
    for phantom in phantoms:
        assert phantom.image.dtype == np.int16
        assert phantom.image.min() >= -1024
        means = {name: phantom.image[phantom.labels == value].mean() for value, name in LABEL_NAMES.items()}
        assert -900 < means["lung_left"] < -600
        assert 30 < means["liver"] < 130
        assert means["vertebrae"] > 150
        assert phantom.image[phantom.labels == 0].mean() < -900
        assert phantom.image[phantom.labels == 4].std() > 8  # texture and noise


def test_a_seed_gives_the_same_patient() -> None:
    first, again, other = draw(0), draw(0), draw(1)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.grid.affine, again.grid.affine)
    assert first.image.shape != other.image.shape or (first.image != other.image).any()


def test_files_hold_what_the_phantom_knows(tmp_path: Path) -> None:
    counts = {"pretrain": 2, "train": 1, "test": 1}
    files = write_phantoms(tmp_path / "a", counts, seed=7, spacing_mm=COARSE_MM)
    write_phantoms(tmp_path / "b", counts, seed=7, spacing_mm=COARSE_MM, workers=2)
    names = sorted(path.name for path in files.images.iterdir())
    assert names == [f"phantom_{n:03d}.nii.gz" for n in range(4)]
    assert sorted(path.name for path in files.labels.iterdir()) == ["phantom_002.nii.gz", "phantom_003.nii.gz"]
    assert json.loads(files.splits.read_text()) == files.cases
    label_names = json.loads(files.label_names.read_text())
    assert label_names["4"] == "liver"
    assert "body" not in label_names.values()

    phantom = make_phantom(np.random.default_rng((7, 3)), spacing_mm=COARSE_MM)
    image, labels = nib.load(files.images / names[3]), nib.load(files.labels / names[3])
    np.testing.assert_array_equal(np.asarray(image.dataobj), phantom.image)
    np.testing.assert_allclose(image.affine, phantom.grid.affine, atol=1e-4)
    np.testing.assert_array_equal(np.unique(np.asarray(labels.dataobj)), np.unique(phantom.labels % 14))
    for split in ("a", "b"):
        with (tmp_path / split / "landmarks.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        read = {
            r["structure"]: [float(r[k]) for k in ("x_mm", "y_mm", "z_mm")] for r in rows if r["case"].endswith("3")
        }
        assert read.keys() == phantom.landmarks_mm.keys()
        np.testing.assert_allclose(read["liver"], phantom.landmarks_mm["liver"], atol=1e-3)
    for name in names:
        same = (np.asarray(nib.load(tmp_path / s / "images" / name).dataobj) for s in "ab")
        np.testing.assert_array_equal(*same)
