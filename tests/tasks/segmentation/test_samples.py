"""Samples for segmentation: repeatable, balanced over structures, honest about what was not contoured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.tasks.segmentation.samples import (
    CropSettings,
    SegmentationSamples,
    class_values,
    classes_of,
    contoured_classes,
)

SETTINGS = CropSettings(crop=16, spacing_mm=(8.0, 8.0, 8.0))


@pytest.fixture
def store(tiny_store) -> Store:
    return Store.open(tiny_store)


def samples(store: Store, **changes) -> SegmentationSamples:
    cases = store.cases("train")
    return SegmentationSamples(
        store=store,
        cases=cases,
        values=class_values(cases),
        rule=IntensityRule(),
        settings=replace(SETTINGS, **changes),
        seed=4,
    )


def test_a_sample_depends_on_its_number_alone(store):
    first, second = samples(store), samples(store)
    later = second[5]
    second[0]
    for key, value in first[5].items():
        np.testing.assert_array_equal(value, later[key])
    assert (first[5]["image"] != first[6]["image"]).any()


def test_shapes_and_types(store):
    drawn = samples(store)
    sample = drawn[0]
    assert sample["image"].shape == (2, 16, 16, 16)
    assert sample["image"].dtype == np.float32
    assert sample["labels"].shape == (16, 16, 16)
    assert sample["labels"].dtype == np.int64
    assert sample["labels"].max() < len(drawn.values)
    assert sample["contoured"].shape == (len(drawn.values),)


def test_structures_take_turns(store):
    drawn = samples(store, anywhere=0.0, shift=0.0, rotation_deg=0.0, scale=(1.0, 1.0))
    structures = len(drawn.values) - 1
    hits = [(drawn[i]["labels"][7:9, 7:9, 7:9] == 1 + i % structures).any() for i in range(3 * structures)]
    assert np.mean(hits) > 0.9  # a voxel of the structure lies between the crop's middle voxels


def test_left_stays_left(store):
    """The spleen lies to the patient's left: at smaller R coordinates than the liver, in every crop that shows both."""
    drawn = samples(store, anywhere=0.0, rotation_deg=10.0, crop=32)
    of_name = {name: value for value, name in store.label_names.items()}
    liver, spleen = (drawn.values.index(of_name[name]) for name in ("liver", "spleen"))
    differences = []
    for i in range(24):
        labels = drawn[i]["labels"]
        if (labels == liver).any() and (labels == spleen).any():
            differences.append(np.argwhere(labels == liver)[:, 0].mean() - np.argwhere(labels == spleen)[:, 0].mean())
    assert len(differences) > 3
    assert min(differences) > 0


def test_mirroring_on_request(store):
    drawn = samples(store, anywhere=0.0, rotation_deg=0.0, crop=32, mirror=True)
    of_name = {name: value for value, name in store.label_names.items()}
    liver, spleen = (drawn.values.index(of_name[name]) for name in ("liver", "spleen"))
    signs = set()
    for i in range(24):
        labels = drawn[i]["labels"]
        if (labels == liver).any() and (labels == spleen).any():
            signs.add(np.argwhere(labels == liver)[:, 0].mean() > np.argwhere(labels == spleen)[:, 0].mean())
    assert signs == {True, False}


def test_what_a_reference_lacks_is_not_contoured(store):
    case = replace(store.cases("train")[0], structures=(2, 5))
    assert contoured_classes(case, (0, 2, 3, 5)).tolist() == [True, True, False, True]


def test_values_to_classes():
    labels = np.array([[[0, 7, 3], [200, 5, 7]]])
    assert classes_of(labels, (0, 3, 7)).tolist() == [[[0, 2, 1], [0, 0, 2]]]


def test_no_structures_is_an_error(store):
    with pytest.raises(UserError, match="no labelled structure"):
        SegmentationSamples(
            store=store, cases=store.cases("pretrain"), values=(0,), rule=IntensityRule(), settings=SETTINGS
        )


def test_a_healthy_case_has_every_structure_looked_for(store):
    case = store.cases("train")[0]
    healthy = replace(case, structures=())
    assert contoured_classes(healthy, (0, 3, 5)).all()
    assert contoured_classes(replace(case, structures=(3,)), (0, 3, 5)).tolist() == [True, True, False]
    assert contoured_classes(replace(healthy, labelled=False), (0, 3, 5)).tolist() == [True, False, False]
