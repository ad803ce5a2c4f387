"""Fine-tuning's controls through the command: the head `both`, and Dice while it learns."""

from __future__ import annotations

import json

import pytest
from calling import same_weights, stopped_after
from safetensors.torch import load_file

from alice3d.commands import evaluate, finetune
from alice3d.commands.evaluate import EvaluateConfig
from alice3d.commands.finetune import FinetuneConfig
from alice3d.engine.log import read_log
from alice3d.errors import UserError
from alice3d.tasks.segmentation import SegmentationTask

SMALL = {
    "backbone_options": {"widths": [4, 8, 12], "blocks": [1, 1]},
    "batch": 2,
    "crop": 16,
    "workers": 0,
    "labels": 1,
    "threads": 1,
    "linear_voxels": 40,
    "linear_iterations": 5,
    "linear_rounds": 1,
}


def test_watching_a_run_changes_nothing_of_it(tiny_store, tmp_path, capsys):
    config = FinetuneConfig(store=tiny_store, out=tmp_path / "plain", steps=5, **SMALL)
    finetune.run(config)
    watched = config.model_copy(update={"out": tmp_path / "watched", "validate_every": 2, "validate_cases": 9})
    finetune.run(watched)
    assert "Step 4: dice 0." in capsys.readouterr().out
    scores = {entry["step"] + 1: entry["val_dice"] for entry in read_log(tmp_path / "watched" / "log.jsonl")
              if "val_dice" in entry}  # fmt: skip
    assert list(scores) == [2, 4, 5]
    plain, other = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "watched"))
    assert all((plain[key] == other[key]).all() for key in plain)
    again = watched.model_copy(update={"validate_every": 0})
    finetune.run(again)  # it does not count as another setting
    assert capsys.readouterr().out.strip().endswith("already done")


def test_watching_needs_labels_to_watch(tiny_store, tmp_path):
    config = FinetuneConfig(
        store=tiny_store, out=tmp_path / "a", steps=2, validate_every=1, validate_split="pretrain", **SMALL
    )
    with pytest.raises(UserError, match="no case of split 'pretrain' has labels"):
        finetune.run(config)
    with pytest.raises(UserError, match="leave out --shard-weights"):
        finetune.run(config.model_copy(update={"validate_split": "val", "shard_weights": True}))
    assert not (tmp_path / "a").exists()


def test_the_last_score_is_that_of_the_model_written(tiny_store, tmp_path):
    finetune.run(
        FinetuneConfig(store=tiny_store, out=tmp_path / "model", head="both", steps=3, validate_every=3, **SMALL)
    )
    assert json.loads((tmp_path / "model" / "model.json").read_text())["head"] == "both"
    last = read_log(tmp_path / "model" / "log.jsonl")[-1]["val_dice"]
    scored = evaluate.run(EvaluateConfig(model=tmp_path / "model", store=tiny_store, split="val"))
    assert scored["cases"] == 1
    assert last == pytest.approx(scored["dice"]["mean"], abs=1e-5)


def test_a_replaced_run_leaves_nothing_to_go_on_from(tiny_store, tmp_path):
    config = FinetuneConfig(store=tiny_store, out=tmp_path / "model", steps=3, **SMALL)
    finetune.run(config)
    replaced = config.model_copy(update={"steps": 4, "overwrite": True})
    finetune.run(replaced)
    assert [entry["step"] for entry in read_log(tmp_path / "model" / "log.jsonl")] == [0, 1, 2, 3]


def test_a_linear_head_refuses_several_processes(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without torchrun"):
        finetune.run(FinetuneConfig(store=tiny_store, out=tmp_path / "model", head="linear", **SMALL))
    assert not (tmp_path / "model").exists()


def test_head_both_goes_on_as_if_uninterrupted(tiny_store, tmp_path, monkeypatch):
    config = FinetuneConfig(store=tiny_store, out=tmp_path / "whole", head="both", steps=4, checkpoint_every=2, **SMALL)
    finetune.run(config)
    stopped = config.model_copy(update={"out": tmp_path / "stopped"})
    with stopped_after(monkeypatch, SegmentationTask, 2):
        finetune.run(stopped)
    finetune.run(stopped)
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")
