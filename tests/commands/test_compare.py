"""`alice compare`: cells that go on after a kill, arms under equal conditions, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from calling import call, result

import alice3d
from alice3d.comparison import cells
from alice3d.data.pairs import PairRows
from alice3d.data.pairs.table import write_part, write_table
from alice3d.data.store import Store
from alice3d.weights.files import read_state
from alice3d.weights.provenance import described

TINY = {
    "labels": [2],
    "seeds": [0],
    "measures": ["linear", "knn"],
    "split": "test",
    "pretrain": {
        "steps": 2,
        "batch": 1,
        "crop": 16,
        "points": 8,
        "candidates": 16,
        "backbone_options": {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1]},
        "monitor_every": 0,
        "workers": 0,
    },
    "linear": {"linear_voxels": 30, "linear_views": 1, "linear_iterations": 4, "linear_rounds": 1},
    "finetune": {"steps": 2, "batch": 1, "crop": 16, "workers": 0, "validate_every": 0},
}


def recipe(folder: Path, **changed: object) -> Path:
    path = folder / "compare.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changed}))
    return path


def test_a_stopped_comparison_goes_on_cell_by_cell(capsys, tiny_store, tiny_scans, tmp_path, monkeypatch):
    config = recipe(
        tmp_path,
        arms={"alice": {"options": {"dense_weight": 0}}, "mae": {"method": "mae"}, "scratch": {"method": "scratch"}},
        measures=["linear", "landmark"],
    )
    words = ("compare", tiny_store, tmp_path / "out", "--config", config, "--landmarks", tiny_scans.landmarks)
    trained = []
    real = cells.pretrain

    def stops_before_mae(made, **more):
        if made.method == "mae" and not trained.count("mae"):
            trained.append("mae")
            raise KeyboardInterrupt
        trained.append(made.method)
        return real(made, **more)

    monkeypatch.setattr(cells, "pretrain", stops_before_mae)
    assert call(capsys, *words, "--threads", "1")[0] == 130
    kept = tmp_path / "out" / "cells" / "alice" / "seed-0"
    before = {path.name: path.stat().st_mtime_ns for path in kept.glob("*.json")}
    assert set(before) == {"linear-2.json", "landmark.json"}
    assert not (kept / "encoder" / "checkpoints").exists()
    found = result(capsys, *words)
    assert {path.name: path.stat().st_mtime_ns for path in kept.glob("*.json")} == before
    assert {(row["method"], row["measure"]) for row in found["table"]} == {
        (arm, measure)
        for arm in ("alice", "mae", "scratch")
        for measure in ("linear_dice", "landmark_mean_mm", "landmark_median_mm")
    }
    assert set(found["table"][0]) == {"method", "labels", "seed", "measure", "value"}
    assert {test["reference"] for test in found["tests"]} == {"alice"}
    for name in ("compare.csv", "compare.md", "compare.png"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    assert result(capsys, *words) == found  # already done


def test_arms_start_alike_see_the_same_crops_and_may_be_fine_tuned_later(capsys, tiny_store, tmp_path):
    still = {**TINY["pretrain"], "learning_rate": 1e-12, "weight_decay": 0}
    config = recipe(
        tmp_path,
        arms={"alice": {"options": {"dense_weight": 0}}, "mae": {"method": "mae"}, "scratch": {"method": "scratch"}},
        pretrain=still,
    )
    words = ("compare", tiny_store, tmp_path / "out", "--config", config)
    found = result(capsys, *words)
    cells = tmp_path / "out" / "cells"
    one, two = (read_state(cells / arm / "seed-0" / "encoder" / "encoder.safetensors") for arm in ("alice", "mae"))
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    values = {(row["method"], row["measure"]): row["value"] for row in found["table"]}
    for measure in ("linear_dice", "knn_accuracy"):  # random weights are where the trained arms start
        assert values["scratch", measure] == pytest.approx(values["mae", measure], abs=0.02)

    more = result(capsys, *words, "--measures", "linear,finetune", "--finetune-arms", "mae,scratch")
    dice = {row["method"] for row in more["table"] if row["measure"] == "dice"}
    assert dice == {"mae", "scratch"}
    assert [row for row in more["table"] if row["measure"] == "linear_dice"] == [
        row for row in found["table"] if row["measure"] == "linear_dice"
    ]
    assert not (cells / "alice" / "seed-0" / "model-2").exists()


def test_an_encoder_and_a_warm_start_can_be_arms(capsys, tiny_store, tiny_matcher, tmp_path):
    config = recipe(tmp_path, arms={"theirs": {"encoder": str(tiny_matcher)}, "start": {"method": "init"}})
    found = result(capsys, "compare", tiny_store, tmp_path / "out", "--config", config, "--init", tiny_matcher)
    one, two = ([row["value"] for row in found["table"] if row["method"] == arm] for arm in ("theirs", "start"))
    assert one == two
    assert not list((tmp_path / "out" / "cells").rglob("encoder"))


def pairs_by_box(store: Path, folder: Path) -> None:
    """A table that matches the same places of two patients' body boxes."""
    one, two = Store.open(store).cases("pretrain")[:2]
    share = np.random.default_rng(0).random((40, 3))
    low, high = (np.array([case.body_box_mm[end] for case in (one, two)]) for end in (0, 1))
    at = [(low[n] + share * (high[n] - low[n])).astype(np.float32) for n in (0, 1)]
    numbers = {name: np.zeros(40, np.float32) for name in ("similarity", "cycle_mm", "fit_mm", "far_10mm")}
    rows = PairRows(query_mm=at[0], key_mm=at[1], accepted=np.ones(40, bool), **numbers)
    write_part(folder / "0.npz", rows)
    write_table(folder, [(one.id, two.id)], [folder / "0.npz"], {"store": "s", "matcher": "m"})


@pytest.mark.slow
def test_the_ablation_recipe_runs_at_tiny_size(capsys, tiny_store, tiny_scans, tiny_matcher, tmp_path):
    pairs_by_box(tiny_store, tmp_path / "pairs")
    given = yaml.safe_load((Path(alice3d.__file__).parent / "configs" / "ablation.yaml").read_text())
    given["pretrain"] |= {**TINY["pretrain"], "steps": 1}
    given |= {"labels": [2], "seeds": [0], "split": "test", "measures": ["landmark"]}
    given["arms"]["crop-48"] = {"crop": 32}
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump(given))
    found = result(
        capsys, "compare", tiny_store, tmp_path / "out", "--config", path, "--pairs", tmp_path / "pairs",
        "--init", tiny_matcher, "--landmarks", tiny_scans.landmarks,
    )  # fmt: skip
    assert {row["method"] for row in found["table"]} == set(given["arms"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "nothing to compare"),
        ({"methods": ["alise"]}, "did you mean 'alice'?"),
        ({"arms": {"a/b": {}}}, "becomes a folder"),
        ({"arms": {"a": {"stepz": 3}}}, "did you mean 'steps'?"),
        ({"arms": {"a": {"options": {"casas": False}}}}, "did you mean 'casa'?"),
        ({"arms": {"a": {"seed": 3}}}, "same for all arms"),
        ({"arms": {"a": {"method": "scratch", "steps": 3}}}, "nothing is trained"),
        ({"methods": ["init"]}, "needs --init"),
        ({"methods": ["alice"], "measures": ["linaer"]}, "did you mean 'linear'?"),
        ({"methods": ["alice"], "measures": ["landmark"]}, "needs --landmarks"),
        ({"methods": ["alice"], "labels": [9]}, "9 labelled cases are requested"),
        ({"methods": ["alice"], "reference": "mae"}, "no arm 'mae'"),
        ({"methods": ["alice"], "linear": {"views": 3}}, "linear: no setting 'views'"),
        ({"methods": ["scratch"], "split": "train"}, "also train heads (2 labels of 'train', seed 0"),
        ({"methods": ["scratch"], "split": "train", "measures": ["finetune"]}, "also train heads"),
        ({"methods": ["alice"], "split": "tets"}, "--split: the store has no split 'tets'"),
        ({"methods": ["alice"], "train_split": "trian"}, "--train-split: the store has no split 'trian'"),
        ({"methods": ["alice"], "split": "pretrain"}, "--split: no case of split 'pretrain' has labels"),
        ({"arms": {"a": {}, "theirs": {"encoder": "/nope"}}}, "arm theirs: "),
        ({"methods": ["alice"], "labels": [0]}, "labels.0: Input should be greater than or equal to 1"),
        ({"methods": ["scratch"], "seeds": [-1]}, "seeds.0: Input should be greater than or equal to 0"),
        ({"methods": ["alice"], "finetune": {"stepz": 2}}, "finetune: no setting 'stepz'"),
        ({"methods": ["alice"], "finetune": {"labels": 2}}, "finetune: labels is set by the comparison"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(capsys, tiny_store, tmp_path, changed, said):
    code, out, err = call(capsys, "compare", tiny_store, tmp_path / "out", "--config", recipe(tmp_path, **changed))
    assert (code, out) == (2, ""), err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_saw_the_scans_of_a_split_for_testing_is_refused_before_anything_is_trained(
    capsys, tiny_store, tiny_matcher, tmp_path
):
    store, knowing = tmp_path / "store", tmp_path / "knowing"
    shutil.copytree(tiny_store, store)
    index = store / "index.csv"
    index.write_text(index.read_text().replace(",test,", ",heldout,"))
    shutil.copytree(tiny_matcher, knowing)
    card = json.loads((knowing / "matcher.json").read_text())
    card["cases"] = described(Store.open(store).cases("heldout"))
    (knowing / "matcher.json").write_text(json.dumps(card))
    words = ("compare", store, tmp_path / "out", "--config")
    for changed in (
        {"arms": {"alice": {}, "theirs": {"encoder": str(knowing)}}},
        {"arms": {"start": {"method": "init"}}, "init": str(knowing)},
        {"arms": {"alice": {}}, "init": str(knowing)},
        {"arms": {"alice": {"split": "heldout"}}},
    ):
        code, _, err = call(capsys, *words, recipe(tmp_path, split="heldout", **changed))
        assert code == 2, changed
        assert "2 scans of the heldout split (arm" in err
        assert "--allow-seen" in err
        assert not (tmp_path / "out").exists()
    config = recipe(tmp_path, split="heldout", arms={"theirs": {"encoder": str(knowing)}}, measures=["knn", "finetune"])
    code, _, err = call(capsys, *words, config, "--allow-seen", "--threads", "1")
    assert code == 0, err
    assert "warning: 2 scans of the heldout split (arm theirs) were seen" in err


def test_other_data_needs_another_folder_and_another_arm_does_not(capsys, tiny_store, tmp_path):
    config = recipe(tmp_path, measures=["knn"])
    words = ("compare", tiny_store, tmp_path / "out", "--config", config, "--methods")
    result(capsys, *words, "scratch")
    more = result(capsys, *words, "scratch,mae")
    assert {row["method"] for row in more["table"]} == {"scratch", "mae"}
    code, _, err = call(capsys, *words, "scratch", "--split", "val")
    assert code == 2
    assert "was made with split" in err
    assert json.loads((tmp_path / "out" / "status.json").read_text())["state"] == "done"
