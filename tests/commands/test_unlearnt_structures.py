"""A structure that no drawn case shows cannot be learnt: it is left out of every score, alike, and named."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from calling import call, result
from test_compare import TINY

from alice3d.commands.prepare import PrepareConfig
from alice3d.commands.prepare import run as prepare
from alice3d.comparison.table import dice_by_case
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Store
from alice3d.evaluation.features import probe_scan
from alice3d.tasks.cases import draw_cases, labelled_cases, unlearnt
from alice3d.tasks.segmentation.samples import class_values


@pytest.fixture(scope="module")
def lacking(tiny_scans, tmp_path_factory):
    """A store of the same patients; the lowest label value is missing in one train case, the next one in both."""
    folder = tmp_path_factory.mktemp("lacking")
    shutil.copytree(tiny_scans.labels, folder / "labels")
    first, second = tiny_scans.cases["train"]
    for case, missing in ((first, (1, 2)), (second, (2,))):
        path = folder / "labels" / f"{case}.nii.gz"
        scan = nib.load(path)
        voxels = np.asarray(scan.dataobj)
        nib.save(nib.Nifti1Image(np.where(np.isin(voxels, missing), 0, voxels), scan.affine, scan.header), path)
    names = str(tiny_scans.label_names)
    given = {"scans": tiny_scans.images, "labels": folder / "labels", "splits": tiny_scans.splits}
    prepare(PrepareConfig(**given, store=folder / "store", label_names=names, spacing="8"))
    return folder / "store"


def scored_without(store, folder, left_out):
    """Dice of each case without some structures, by hand."""
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    at = {name: rows[0].index(name) for name in ("case", "structure", "dice")}
    found = {}
    for row in rows[1:]:
        if row[at["structure"]] not in left_out and row[at["dice"]]:  # without: predicted where the reference has none
            found.setdefault(row[at["case"]], []).append(float(row[at["dice"]]))
    return {case: np.mean(values) for case, values in found.items()}


def test_values_of_a_draw_that_cannot_be_learnt(lacking):
    store = Store.open(lacking)
    train, scored = (labelled_cases(store, split) for split in ("train", "test"))
    assert unlearnt(train, scored) == [2]
    assert unlearnt([case for case in train if 1 not in case.structures], scored) == [1, 2]
    assert unlearnt(scored, scored) == []


def test_every_arm_is_scored_on_what_its_draw_shows_and_the_rest_is_named(capsys, lacking, tiny_matcher, tmp_path):
    arms = {"theirs": {"encoder": str(tiny_matcher)}, "start": {"method": "init"}}
    given = {**TINY, "arms": arms, "labels": [1, 2], "measures": ["linear", "finetune"]}
    given["finetune"] = {"head": "linear", **TINY["linear"]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(given))
    words = ("compare", lacking, tmp_path / "out", "--config", tmp_path / "c.yaml", "--init", tiny_matcher)
    code, out, err = call(capsys, *words, "--threads", "1")
    assert code == 0, err
    store = Store.open(lacking)
    name = store.label_names[2]
    one = unlearnt(draw_cases(labelled_cases(store, "train"), 1, 0), labelled_cases(store, "test"))
    draws = {", ".join(store.label_names[value] for value in one): ["1 labels, seed 0"]}
    draws.setdefault(name, []).append("2 labels, seed 0")
    said = "; ".join(f"{names} ({'; '.join(of)})" for names, of in draws.items())
    assert f"Left out of every arm's scores, since no drawn case shows it: {said}." in out
    assert f"since no drawn case shows it: {said}." in (tmp_path / "out" / "compare.md").read_text()
    table = result(capsys, *words)["table"]
    for arm in arms:
        folder = tmp_path / "out" / "cells" / arm / "seed-0"
        kept = json.loads((folder / "linear-2.json").read_text())
        assert kept["settings"]["unlearnt"] == [2]
        model = folder / "model-2" / "evaluation-test"
        expected = scored_without(lacking, model, [name])
        assert dice_by_case(model / "metrics.csv", [2]) == pytest.approx(expected)
        row = next(r for r in table if (r["method"], r["labels"], r["measure"]) == (arm, 2, "dice"))
        assert row["value"] == pytest.approx(np.mean(list(expected.values())))
        assert np.mean(list(dice_by_case(model / "metrics.csv").values())) < row["value"]


def test_probe_leaves_it_out_and_equals_the_scores_of_the_rest(capsys, lacking, tiny_matcher, tmp_path):
    light = ("--linear-voxels", "40", "--linear-views", "1", "--linear-iterations", "8", "--labels", 2)
    words = ("probe", tiny_matcher, lacking, "--split", "test", "--no-baselines", *light)
    probed = result(capsys, *words)
    name = Store.open(lacking).label_names[2]
    assert probed["left_out"] == [name]
    assert name not in probed["linear"]["by_structure"]
    result(capsys, "finetune", lacking, tmp_path / "m", "--encoder", tiny_matcher, "--head", "linear", *light)
    scored = result(capsys, "evaluate", tmp_path / "m", lacking, "--split", "test")
    assert scored["by_structure"][name]["dice"]["mean"] == 0
    rest = scored_without(lacking, tmp_path / "m" / "evaluation-test", [name])
    assert probed["linear_dice"] == pytest.approx(np.mean(list(rest.values())), abs=1e-6)
    assert f"Left out, since no training case shows it: {name}" in call(capsys, *words, "--threads", "1")[1]


def test_no_voxel_of_it_is_asked_for_as_background(lacking):
    store = Store.open(lacking)
    case = labelled_cases(store, "test")[0]
    given = {"rule": IntensityRule(modality="ct"), "spacing_mm": (8.0, 8.0, 8.0), "voxels": 400}
    values = class_values(labelled_cases(store, "train"))
    scan = probe_scan(store, case, values=values, **given)
    labels = torch.from_numpy(store.label(case.id)[:, :, :])[tuple(scan.voxels.T)]
    assert 2 in case.structures
    assert (labels[scan.classes == 0] == 0).all()
    assert (labels != 2).all()
