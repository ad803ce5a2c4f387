"""nnU-Net's `ignore` label and regions: from dataset.json to what training and scores see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_folders import OPTIONS, nnunet
from scan_files import head_like, write_nifti

from alice3d.data.prepare import prepare
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sources.layouts import find_sources
from alice3d.data.store import Store
from alice3d.data.store.read_grid import read_label_grid
from alice3d.data.tables.label_names import read_label_names
from alice3d.errors import UserError
from alice3d.tasks.segmentation.linear import draw_by_stratum, strata_of
from alice3d.tasks.segmentation.samples import CropSettings, SegmentationSamples, class_values

LABELS = {"background": 0, "liver": 1, "ignore": 2}


def ignoring(folder: Path) -> Path:
    """Liver in one half, and ignored voxels in the fifth planes from the end along i."""
    label = (head_like() > 500).astype(np.uint8)
    label[-5:] = 2
    made = nnunet(folder, labels=LABELS)
    for name in "abc":
        write_nifti(folder / "labelsTr" / f"liver_{name}.nii.gz", label)
    return made


def test_the_ignored_value_is_no_structure(tmp_path: Path) -> None:
    prepare(ignoring(tmp_path / "d"), tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert store.label_names == {1: "liver"}
    assert store.refused == []
    case = store.case("liver_a")
    assert case.structures == (1,)
    label = store.label("liver_a")[:, :, :]
    assert set(np.unique(label)) == {-1, 0, 1}
    ignored = np.argwhere(label == -1)
    low = case.grid.world(ignored.min(axis=0))[0]
    assert low == pytest.approx(-20 + 2 * (24 - 5), abs=2.5)  # the affine of `head_like` starts at -20, in steps of 2


def test_samples_and_strata_keep_ignored_voxels_apart(tmp_path: Path) -> None:
    prepare(ignoring(tmp_path / "d"), tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    cases = [case for case in store.cases("train") if case.labelled]
    values = class_values(cases)
    assert values == (0, 1)
    settings = CropSettings(crop=16, spacing_mm=(4.0, 4.0, 4.0))
    samples = SegmentationSamples(
        store=store, cases=cases, values=values, rule=IntensityRule(), settings=settings, seed=0
    )
    seen = set[int]()
    for number in range(6):
        seen |= set(np.unique(samples[number]["labels"]).tolist())
    assert seen == {-1, 0, 1}
    classes = read_label_grid(store, cases[0], cases[0].grid).astype(np.int64)
    index, weight = draw_by_stratum(strata_of(classes, 2), 10_000, np.random.default_rng(0))
    assert (classes[tuple(index.T)] >= 0).all()
    assert weight.sum() == (classes >= 0).sum()


@pytest.mark.parametrize("form", ["words", "file"])
def test_label_names_may_name_the_ignored_value(tmp_path: Path, form: str) -> None:
    (tmp_path / "names.json").write_text(json.dumps({"labels": LABELS}))
    names = read_label_names("1=liver,2=ignore" if form == "words" else str(tmp_path / "names.json"))
    folder = ignoring(tmp_path / "d")
    (folder / "dataset.json").unlink()
    prepare(folder, tmp_path / "s", replace(OPTIONS, label_names=names))
    assert Store.open(tmp_path / "s").label_names == {1: "liver"}
    prepare(folder, tmp_path / "s", replace(OPTIONS, label_names=names))  # the same call again


BRATS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (BRATS, {1: "whole_without_core", 2: "core_without_enhancing", 3: "enhancing"}),
        ({**BRATS, "enhancing": [3]}, {1: "whole_without_core", 2: "core_without_enhancing", 3: "enhancing"}),
        ({"background": 0, "whole": [1, 2, 3], "core": [3]}, {1: "whole_label_1", 2: "whole_label_2", 3: "core"}),
        ({"background": 0, "kidneys": [1, 2], "left": 1}, {1: "left", 2: "kidneys_without_left"}),
    ],
)
def test_values_of_regions_get_names_of_their_own(tmp_path: Path, labels: Any, expected: dict[int, str]) -> None:
    folder = nnunet(tmp_path / "d", labels=labels)
    found = find_sources(folder, None)
    assert found.label_names == expected
    assert any(text.startswith("dataset.json: regions are read as the values") for text in found.warnings)
    assert read_label_names(str(folder / "dataset.json")) == expected


@pytest.mark.parametrize("values", [[0, 1], ["x"], [40000], [True]])
def test_bad_regions_are_refused(tmp_path: Path, values: Any) -> None:
    with pytest.raises(UserError, match=r"dataset\.json: label value"):
        find_sources(nnunet(tmp_path / "d", labels={"background": 0, "all": values}), None)
