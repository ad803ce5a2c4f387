"""Labels of a store: on their image's grid, neither invented nor lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scan_files import affine_of, head_like, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.preprocessing.labels import resample_labels
from alice3d.data.store import Store
from alice3d.geometry import diagonal_affine, ras_grid

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")


def reason_of(store: Path, name: str) -> str:
    return next(reason for case, _, reason in Store.open(store).refused if case == name)


def test_label_in_another_order_of_axes_lies_on_the_same_grid(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", labels=True)
    label = (head_like(seed=0) > 500).astype(np.uint8)
    turned = affine_of(axes="RAS") @ np.array([[-1, 0, 0, 23], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    write_nifti(tmp_path / "labels" / "a.nii.gz", label[::-1].transpose(0, 2, 1), turned)
    prepare(folder, tmp_path / "s", replace(OPTIONS, labels=tmp_path / "labels"))
    store = Store.open(tmp_path / "s")
    assert store.label("a")[:][store.image("a")[:] > 700].mean() > 0.9


def test_label_moved_by_half_a_voxel_is_refused(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b", labels=True)
    affine = affine_of()
    affine[0, 3] += 1.0
    write_nifti(tmp_path / "labels" / "a.nii.gz", (head_like() > 500).astype(np.uint8), affine)
    prepare(folder, tmp_path / "s", replace(OPTIONS, labels=tmp_path / "labels"))
    assert "up to 1.00 mm off" in reason_of(tmp_path / "s", "a")


def test_a_label_that_arrives_later_is_added(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b", labels=True)
    prepare(folder, tmp_path / "s", OPTIONS)
    assert not Store.open(tmp_path / "s").case("a").labelled
    prepare(folder, tmp_path / "s", replace(OPTIONS, labels=tmp_path / "labels"))
    assert Store.open(tmp_path / "s").case("a").labelled
    assert prepare(folder, tmp_path / "s", OPTIONS)["added"] == 0
    assert Store.open(tmp_path / "s").case("a").labelled


def test_labels_are_neither_invented_nor_lost() -> None:
    label = np.zeros((40, 40, 40), np.uint8)
    label[5:15, 5:15, 5:15], label[15:25, 5:15, 5:15], label[30, 30, 30] = 7, 2, 5
    label[33:35, 33:35, 33:35] = 3
    affine = diagonal_affine((1.0, 1.0, 1.0), np.zeros(3))
    for spacing in (0.7, 1.3, 4.0, 9.0):
        found, notes = resample_labels(label, affine, ras_grid(label.shape, affine, spacing))
        assert set(np.unique(found)) == {0, 2, 3, 5, 7}
        volume = (found == 7).sum() * spacing**3
        assert abs(volume - 1000) < 0.4 * 1000
        assert spacing < 4 or "structure 5 is smaller than a voxel, kept as one" in notes
    same, notes = resample_labels(label, affine, ras_grid(label.shape, affine, 1.0))
    np.testing.assert_array_equal(same, label)
    assert notes == ()


def test_crop_never_cuts_a_label_off(tmp_path: Path) -> None:
    image = head_like((40, 40, 30))
    label = np.zeros(image.shape, np.uint8)
    label[38, 38, 2] = 1  # in air
    write_nifti(tmp_path / "scans" / "a.nii", image)
    write_nifti(tmp_path / "labels" / "a.nii", label)
    prepare(
        tmp_path / "scans", tmp_path / "s", replace(OPTIONS, labels=tmp_path / "labels", spacing_mm=(2.0, 2.0, 2.5))
    )
    assert Store.open(tmp_path / "s").label("a")[:].sum() == 1


def test_an_empty_label_map_is_that_of_a_healthy_case(
    scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = scans("a", "b", "c", "d", labels=True)
    write_nifti(tmp_path / "labels" / "a.nii.gz", np.zeros((24, 26, 20), np.uint8))
    prepare(folder, tmp_path / "s", replace(OPTIONS, labels=tmp_path / "labels"))
    store = Store.open(tmp_path / "s")
    case = store.case("a")
    assert case.healthy
    assert case.labelled
    assert not case.structures
    assert not any(store.case(name).healthy for name in "bcd")
    assert not store.label("a")[:].any()
    assert store.label("a").shape == store.image("a").shape
    assert "the label is empty, the case counts as healthy" in case.notes
    assert "4 with labels, 1 of them empty" in capsys.readouterr().out
    assert "pretrain" not in store.splits
