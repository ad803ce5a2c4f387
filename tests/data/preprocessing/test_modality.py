"""CT or MR by header and values, label maps told from scans, and MR in any unit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import write_series
from scan_files import affine_of, head_like, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.preprocessing.modality import label_like, looks_like_hu
from alice3d.data.preprocessing.preprocess import prepare_array
from alice3d.data.store import Store
from alice3d.data.store.read_grid import read_case
from alice3d.errors import UserError
from alice3d.io.read import read_scan
from alice3d.io.volume import ScanError, Volume

LPS = affine_of(axes="LPS")
AUTO = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0))


def mr_like(seed: int = 0) -> np.ndarray:
    """Values from 0 to about 2,000."""
    return np.clip(head_like(seed=seed).astype(int) + 1000, 0, None).astype(np.int16)


def reasons(store: Path) -> dict[str, str]:
    return {id: reason for id, _, reason in Store.open(store).refused}


def test_auto_follows_the_header(tmp_path: Path) -> None:
    phase = np.random.default_rng(0).integers(-4096, 4096, head_like().shape).astype(np.int16)
    write_series(tmp_path / "mr" / "phase", phase, LPS, modality="MR", intercept=-8192)
    prepare(tmp_path / "mr", tmp_path / "a", AUTO)
    assert (Store.open(tmp_path / "a").spec.modality, len(Store.open(tmp_path / "a").cases())) == ("mr", 1)
    write_series(tmp_path / "ct" / "raw", mr_like(), LPS, intercept=0)
    with pytest.raises(UserError, match=r"not in HU: its DICOM header says CT, but values .* lack their intercept"):
        prepare(tmp_path / "ct", tmp_path / "b", AUTO)
    assert not any(case for case in Store.open(tmp_path / "b").cases())


def test_padding_does_not_hide_that_values_lack_their_intercept() -> None:
    raw = head_like() + 1024
    raw[:3] = -2000
    for said in ("CT", ""):
        with pytest.raises(ScanError, match="lack their intercept"):
            prepare_array(Volume(raw, affine_of(), modality=said), spacing_mm=3.0, modality="ct")
    padded = head_like()
    padded[:3] = -2000
    assert prepare_array(Volume(padded, affine_of()), spacing_mm=3.0, modality="ct").image.min() == -2000


def test_a_ct_crop_without_air_is_ct_by_its_header(tmp_path: Path) -> None:
    crop = np.random.default_rng(0).integers(-100, 200, (20, 22, 18)).astype(np.int16)
    write_series(tmp_path / "d" / "crop", crop, LPS)
    prepare(tmp_path / "d", tmp_path / "s", AUTO)
    store = Store.open(tmp_path / "s")
    assert (store.spec.modality, [case.id for case in store.cases()]) == ("ct", ["crop"])


@pytest.mark.parametrize(("kind", "article"), [("MR", "an MR"), ("PT", "a PT")])
def test_another_modality_in_a_ct_store_is_told_as_that(tmp_path: Path, kind: str, article: str) -> None:
    for seed in range(2):
        write_series(tmp_path / "d" / f"ct{seed}", head_like(seed=seed), LPS)
    write_series(tmp_path / "d" / "other", mr_like(), LPS, modality=kind, intercept=0)
    prepare(tmp_path / "d", tmp_path / "s", AUTO)
    assert reasons(tmp_path / "s")["other"].startswith(f"other modality: {article} scan by its DICOM header")
    prepare(tmp_path / "d", tmp_path / "t", replace(AUTO, modality="ct"))
    assert reasons(tmp_path / "t")["other"].startswith(f"other modality: {article} scan by its DICOM header")


def test_a_ct_in_an_mr_store_is_refused_unless_modality_is_given(tmp_path: Path) -> None:
    for seed in range(2):
        write_series(tmp_path / "d" / f"mr{seed}", mr_like(seed), LPS, modality="MR", intercept=0)
    write_series(tmp_path / "d" / "ct", head_like(seed=3), LPS)
    write_series(tmp_path / "d" / "odd", head_like(seed=4), LPS, modality="MR")
    write_nifti(tmp_path / "d" / "hu.nii", head_like(seed=5))
    prepare(tmp_path / "d", tmp_path / "s", AUTO)
    assert Store.open(tmp_path / "s").spec.modality == "mr"
    why = reasons(tmp_path / "s")
    assert set(why) == {"ct", "odd", "hu"}
    assert why["ct"].startswith("other modality: a CT scan by its DICOM header")
    assert why["odd"].startswith("contradiction: its DICOM header says MR, but its values look like Hounsfield units")
    assert why["hu"].startswith("other modality: MR is read, but its values look like Hounsfield units")
    assert all("--modality mr" in text for text in why.values())
    prepare(tmp_path / "d", tmp_path / "t", replace(AUTO, modality="mr"))
    assert reasons(tmp_path / "t") == {}


def test_models_are_told_the_modality_of_a_scan_too(tmp_path: Path) -> None:
    write_series(tmp_path / "mr", mr_like(), LPS, modality="MR", intercept=0)
    with pytest.raises(ScanError, match="an MR scan by its DICOM header, where CT is read") as caught:
        prepare_array(read_scan(tmp_path / "mr"), spacing_mm=3.0, modality="ct")
    assert "--modality" not in str(caught.value)  # no option of the commands that use a model
    write_series(tmp_path / "ct", head_like(), LPS)
    with pytest.raises(ScanError, match="a CT scan by its DICOM header, where MR is read"):
        prepare_array(read_scan(tmp_path / "ct"), spacing_mm=3.0, modality="mr")


def blocks(count: int) -> np.ndarray:
    """Cubes of 4 voxels a side, with `count` different values."""
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, count, (8, 8, 8)), np.ones((4, 4, 4), int))


@pytest.mark.parametrize(
    ("array", "is_label"),
    [
        (blocks(2), True),
        (blocks(5).astype(np.float32), True),
        (blocks(120), True),
        (blocks(120) - 1, True),
        (np.random.default_rng(0).integers(0, 4, (20, 20, 20)), True),
        (blocks(5) + 0.5, False),
        (blocks(5) * 100 - 1000, False),
        (np.random.default_rng(0).integers(0, 120, (20, 20, 20)), False),
        (mr_like(), False),
        (head_like(), False),
        ((mr_like() / 8).astype(np.uint8), False),
    ],
)
def test_label_maps_are_told_from_scans(array: Any, is_label: bool) -> None:
    assert bool(label_like(array.astype(np.int16) if array.dtype == int else array)) is is_label


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_a_label_map_is_refused_by_every_reader(modality: Any) -> None:
    with pytest.raises(ScanError, match="label map, not a scan: 5 whole values from 0 to 4"):
        prepare_array(Volume(blocks(5).astype(np.int16), affine_of()), spacing_mm=3.0, modality=modality)


def test_values_that_are_surely_hounsfield_units() -> None:
    assert looks_like_hu(head_like())
    assert not looks_like_hu(mr_like())
    assert not looks_like_hu(np.random.default_rng(0).integers(-4096, 4096, (20, 20, 20)))
    padded = head_like().copy()
    padded[:2] = -2048
    assert looks_like_hu(padded)


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e3])
def test_normalised_mr_does_not_depend_on_its_unit(tmp_path: Path, unit: float) -> None:
    image = mr_like().astype(np.float32) / 1000
    write_nifti(tmp_path / "d" / "a.nii", image)
    write_nifti(tmp_path / "d" / "b.nii", (image.astype(np.float64) * unit).astype(np.float32))
    prepare(tmp_path / "d", tmp_path / "s", replace(AUTO, modality="mr"))
    store = Store.open(tmp_path / "s")
    one, other = (read_case(store, case, store.spec.intensity)[0] for case in store.cases())
    assert float(one.std()) > 0.1
    np.testing.assert_allclose(other, one, atol=1e-4)
