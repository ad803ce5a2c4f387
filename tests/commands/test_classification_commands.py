"""finetune, evaluate and predict of classifiers: points and whole scans, frozen and full, resumed, and refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from calling import same_weights, stopped_after
from encoder_files import RESUNET, VIT, write_encoder
from safetensors.torch import load_file

from alice3d.commands import evaluate, finetune, predict
from alice3d.data.store import Store
from alice3d.engine.log import read_log
from alice3d.errors import UserError
from alice3d.tasks.classification.objective import ClassificationTask
from alice3d.tasks.settings import EvaluateConfig, FinetuneConfig, PredictConfig

ORGANS = ("liver", "spleen")
QUICK = {
    "task": "classification",
    "backbone_options": {"widths": [4, 8, 12], "blocks": [1, 1]},
    "steps": 4,
    "batch": 2,
    "crop": 16,
    "workers": 0,
    "threads": 1,
    "linear_iterations": 5,
}


def write_table(path: Path, rows: list[tuple], columns: str = "case,x_mm,y_mm,z_mm,class") -> Path:
    path.write_text("\n".join([columns, *(",".join(str(cell) for cell in row) for row in rows)]) + "\n")
    return path


@pytest.fixture(scope="module")
def points(tiny_store, tmp_path_factory) -> Path:
    """The middle of two organs of each labelled patient."""
    store = Store.open(tiny_store)
    values = {name: value for value, name in store.label_names.items() if name in ORGANS}
    rows = []
    for case in store.cases():
        for name, value in values.items() if case.labelled else ():
            where = np.argwhere(store.label(case.id)[:, :, :] == value).mean(axis=0)
            rows.append((case.id, *(f"{mm:.2f}" for mm in case.grid.world(where)), name))
    return write_table(tmp_path_factory.mktemp("tables") / "points.csv", rows)


@pytest.fixture(scope="module")
def scans(tiny_store, tmp_path_factory) -> Path:
    """A class of each whole scan of train, val and test; the class means nothing."""
    cases = [case for case in Store.open(tiny_store).cases() if case.split in ("train", "val", "test")]
    rows = [(case.id, ("sick", "well")[number % 2]) for number, case in enumerate(cases)]
    return write_table(tmp_path_factory.mktemp("tables") / "scans.csv", rows, "case,class")


@pytest.fixture(scope="module")
def model(tiny_store, points, tmp_path_factory) -> Path:
    """A frozen classifier of points."""
    folder = tmp_path_factory.mktemp("classifier")
    encoder = write_encoder(folder / "encoder", RESUNET)
    config = FinetuneConfig(
        store=tiny_store, out=folder / "model", classes=points, encoder=str(encoder), head="linear", **QUICK
    )
    assert set(finetune.run(config)) == {"steps", "loss", "seconds", "out"}
    return folder / "model"


def test_a_frozen_encoder_tells_two_organs_apart(model, tiny_store):
    card = json.loads((model / "model.json").read_text())
    assert (card["task"], card["classes"], card["points"], card["voxel_mm"]) == (
        "classification",
        list(ORGANS),
        True,
        [8.0, 8.0, 8.0],
    )
    assert card["training"]["frozen"]
    result = evaluate.run(EvaluateConfig(model=model, store=tiny_store))
    assert (result["cases"], result["points"]) == (2, 4)
    for metric in ("auroc", "accuracy", "balanced_accuracy", "f1"):
        assert set(result[metric]) == {"mean", "low", "high"}
    assert result["auroc"]["mean"] > 0.9
    assert set(result["by_class"]) == set(ORGANS)
    kept = json.loads((model / "evaluation-test" / "metrics.json").read_text())
    assert kept["confusion"]["classes"] == list(ORGANS)
    assert np.sum(kept["confusion"]["counts"]) == 4
    rows = list(csv.DictReader((model / "evaluation-test" / "metrics.csv").open()))
    assert list(rows[0])[:6] == ["case", "x_mm", "y_mm", "z_mm", "class", "predicted"]
    assert all(abs(sum(float(row[f"score_{name}"]) for name in ORGANS) - 1) < 1e-4 for row in rows)


@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("described", [RESUNET, VIT], ids=["resunet", "vit"])
def test_full_fine_tuning_of_whole_scans(tiny_store, scans, tmp_path, described, pool):
    encoder = write_encoder(tmp_path / "encoder", described)
    settings = {**QUICK, "steps": 2, "crop": 24, "encoder": str(encoder), "classes": scans, "pool": pool}
    finetune.run(FinetuneConfig(store=tiny_store, out=tmp_path / "model", **settings))
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    largest = max(float(np.subtract(*case.body_box_mm[::-1]).max()) for case in Store.open(tiny_store).cases("train"))
    assert card["voxel_mm"] == pytest.approx([max(largest / 24, 8.0)] * 3, abs=1e-3)
    result = evaluate.run(EvaluateConfig(model=tmp_path / "model", store=tiny_store))
    assert result["cases"] == result["points"] == 2


def test_head_both_begins_where_the_linear_head_ends(model, tiny_store, points, tmp_path):
    settings = {**QUICK, "classes": points, "encoder": str(model.parent / "encoder"), "steps": 1}
    finetune.run(FinetuneConfig(store=tiny_store, out=tmp_path / "model", head="both", learning_rate=1e-9, **settings))
    solved, moved = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "model"))
    assert set(solved) == set(moved)
    for key in solved:
        np.testing.assert_allclose(moved[key], solved[key], atol=1e-5)
    assert len(read_log(tmp_path / "model" / "log.jsonl")) == 1


def test_files_score_as_the_store_does(model, tiny_store, tiny_scans, points, tmp_path):
    evaluate.run(EvaluateConfig(model=model, store=tiny_store, split="val", out=tmp_path / "scores"))
    stored = list(csv.DictReader((tmp_path / "scores" / "metrics.csv").open()))
    id = stored[0]["case"]
    table = write_table(
        tmp_path / "points.csv", [(id, row["x_mm"], row["y_mm"], row["z_mm"]) for row in stored], "case,x_mm,y_mm,z_mm"
    )
    config = PredictConfig(model=model, scans=[tiny_scans.images], out=tmp_path / "out", points=table)
    result = predict.run(config)
    assert result["rows"] == 2
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    for ours, theirs in zip(rows, stored, strict=True):
        assert (ours["case"], ours["predicted"]) == (id, theirs["predicted"])
        assert float(ours["score_liver"]) == pytest.approx(float(theirs["score_liver"]), abs=1e-4)
    assert predict.run(config) == result


def test_whole_scans_are_predicted_a_row_each(tiny_store, tiny_scans, scans, tmp_path):
    settings = {**QUICK, "classes": scans, "head": "linear"}
    finetune.run(FinetuneConfig(store=tiny_store, out=tmp_path / "model", **settings))
    (tmp_path / "scans").mkdir()
    shutil.copy(sorted(tiny_scans.images.iterdir())[0], tmp_path / "scans" / "a.nii.gz")
    (tmp_path / "scans" / "broken.nii.gz").write_bytes(b"not a scan")
    result = predict.run(PredictConfig(model=tmp_path / "model", scans=[tmp_path / "scans"], out=tmp_path / "out"))
    assert (result["rows"], [entry["scan"] for entry in result["refused"]]) == (1, ["broken"])
    assert (tmp_path / "out" / "scores.csv").read_text().startswith("case,predicted,score_sick,score_well\na,")


def test_resumed_equals_uninterrupted(tiny_store, points, tmp_path, monkeypatch):
    config = FinetuneConfig(store=tiny_store, out=tmp_path / "whole", classes=points, checkpoint_every=2, **QUICK)
    config = config.model_copy(update={"validate_every": 2})
    finetune.run(config)
    assert [entry["step"] for entry in read_log(tmp_path / "whole" / "log.jsonl") if "val_auroc" in entry] == [1, 3]
    stopped = config.model_copy(update={"out": tmp_path / "stopped"})
    with stopped_after(monkeypatch, ClassificationTask, 2):
        finetune.run(stopped)
    finetune.run(stopped)
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")


def test_scored_cases_that_training_saw(model, tiny_store, points, tmp_path, capsys):
    evaluate.run(EvaluateConfig(model=model, store=tiny_store, split="train", out=tmp_path / "a"))
    assert "these scores do not apply to new scans" in capsys.readouterr().err
    card = json.loads((model / "model.json").read_text())
    case = Store.open(tiny_store).cases("test")[0]
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(model / "model.safetensors", copy)
    seen = {"cases": [{"id": "other name", "content": case.content}]}
    (copy / "model.json").write_text(json.dumps({**card, "encoder": seen}))
    with pytest.raises(UserError, match=r"1 scans of the test split were seen in pre-training.*--allow-seen"):
        evaluate.run(EvaluateConfig(model=copy, store=tiny_store, classes=points))
    with pytest.raises(UserError, match="--classes: give the CSV of the classes"):
        evaluate.run(EvaluateConfig(model=copy, store=tiny_store))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda rows: [row for row in rows if row[4] == "liver"],
            "all rows are of class 'liver'; at least two classes",
        ),
        (lambda rows: [("gone", *rows[0][1:]), *rows], r"line 2: .*no case 'gone'"),
        (lambda rows: [(rows[0][0], 9999, 0, 0, "liver"), *rows], r"line 2: point 9999, 0, 0 lies outside the body"),
        (lambda rows: [(*rows[0][:4], "kidney"), *rows[1:]], "none of the 2 training cases has class kidney"),
    ],
)
def test_tables_that_cannot_be_learnt_from(tiny_store, points, tmp_path, change, message):
    rows = [tuple(line.split(",")) for line in points.read_text().splitlines()[1:]]
    train = {case.id for case in Store.open(tiny_store).cases("train")}
    rows = sorted(rows, key=lambda row: row[0] in train)  # the first is of no training case
    table = write_table(tmp_path / "table.csv", change(rows))
    with pytest.raises(UserError, match=message):
        finetune.run(FinetuneConfig(store=tiny_store, out=tmp_path / "model", classes=table, **QUICK))
    assert not (tmp_path / "model").exists()


def test_calls_that_do_not_fit_the_model(model, tiny_store, tiny_scans, scans, points, tmp_path):
    config = FinetuneConfig(store=tiny_store, out=tmp_path / "x", **QUICK)
    with pytest.raises(UserError, match="--classes: a CSV with the columns case and class is needed"):
        finetune.run(config)
    with pytest.raises(UserError, match="--classes is for --task classification"):
        finetune.run(config.model_copy(update={"task": "segmentation", "classes": points}))
    with pytest.raises(UserError, match="no row is of a case of split 'pretrain'"):
        finetune.run(config.model_copy(update={"classes": scans, "split": "pretrain"}))
    with pytest.raises(UserError, match="9 labelled cases are requested, the training split has 2"):
        finetune.run(config.model_copy(update={"classes": points, "labels": 9}))
    with pytest.raises(UserError, match=r"the model classifies points .*; the table has none"):
        evaluate.run(EvaluateConfig(model=model, store=tiny_store, classes=scans))
    with pytest.raises(UserError, match="--points: a CSV with the columns"):
        predict.run(PredictConfig(model=model, scans=[tiny_scans.images], out=tmp_path / "x"))
    table = write_table(tmp_path / "points.csv", [("gone", 0, 0, 0, "")])
    with pytest.raises(UserError, match="line 2: no scan 'gone'; there are 9 scans"):
        predict.run(PredictConfig(model=model, scans=[tiny_scans.images], out=tmp_path / "x", points=table))
    assert not (tmp_path / "x").exists()


def test_a_point_outside_refuses_its_scan(model, tiny_scans, points, tmp_path):
    scan = sorted(tiny_scans.images.iterdir())[0]
    table = write_table(tmp_path / "points.csv", [(scan.name.removesuffix(".nii.gz"), 9999, 0, 0, "")])
    with pytest.raises(UserError, match=r"none of 1 scans could be classified; .*: point 9999, 0, 0 lies outside"):
        predict.run(PredictConfig(model=model, scans=[scan], out=tmp_path / "out", points=table))
