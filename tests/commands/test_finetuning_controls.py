"""Fine-tuning's controls through the command: the head `both`, and Dice while it learns."""

from __future__ import annotations

import json

import pytest
import torch
from calling import same_weights, stopped_after
from encoder_files import INTENSITY, write_encoder
from safetensors.torch import load_file

from alice3d.commands import evaluate, finetune
from alice3d.data.store import Store, limited
from alice3d.engine.log import read_log
from alice3d.errors import UserError
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.embedding import FPN3D
from alice3d.tasks.classification.task import Classification
from alice3d.tasks.segmentation.job import prepare_finetuning
from alice3d.tasks.segmentation.objective import SegmentationTask
from alice3d.tasks.settings import EVERY_TASK, EvaluateConfig, FinetuneConfig
from alice3d.weights.files import save_weights

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


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_head_both_is_solved_again_where_every_checkpoint_is_damaged(tiny_store, tmp_path, capsys, task):
    """Else training would start from a random layer."""
    cases = [case.id for case in Store.open(tiny_store).cases("train")]
    (tmp_path / "classes.csv").write_text("case,class\n" + "".join(f"{id},{i % 2}\n" for i, id in enumerate(cases)))
    about = {"task": task, "classes": tmp_path / "classes.csv"} if task == "classification" else {}
    settings = {**SMALL, **about, "labels": None}
    if about:
        settings = {key: value for key, value in settings.items() if key in Classification.uses | EVERY_TASK}
    config = FinetuneConfig(store=tiny_store, out=tmp_path / "model", head="both", steps=2, **settings)
    finetune.run(config)
    first = load_file(tmp_path / "model" / "model.safetensors")
    for path in (tmp_path / "model" / "checkpoints").iterdir():
        path.write_bytes(b"damaged")
    (tmp_path / "model" / "model.json").unlink()
    marker = tmp_path / "model" / "status.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "state": "started"}))
    finetune.run(config)
    assert "step-2.pt is damaged; starting from the first step" in capsys.readouterr().err
    again = load_file(tmp_path / "model" / "model.safetensors")
    assert all((first[key] == again[key]).all() for key in first)


def test_the_head_drawn_does_not_depend_on_where_the_backbone_comes_from(tiny_store, tmp_path):
    """Scratch, an encoder and a matcher, which has a head of its own, begin with the same decoder."""
    options = {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1]}
    described = {"name": "resunet", "options": options, "in_channels": 2}
    write_encoder(tmp_path / "encoder", described)
    network = FPN3D(build_backbone("resunet", 2, options))
    card = {"backbone": described, "spacing_mm": [8.0] * 3, "intensity": INTENSITY, "cases": []}
    save_weights(tmp_path / "matcher", "matcher", network.state_dict(), card)
    drawn = []
    for name in (None, "encoder", "matcher"):
        encoder = str(tmp_path / name) if name else None
        config = FinetuneConfig(
            store=tiny_store, out=tmp_path, encoder=encoder, **SMALL | {"backbone_options": options}
        )
        drawn.append(prepare_finetuning(config).net.decoder.state_dict())
    assert all(torch.equal(drawn[0][key], other[key]) for other in drawn[1:] for key in other)


@pytest.mark.parametrize("head", ["unet", "linear"])
def test_scans_that_come_into_the_store_do_not_stop_a_run(tiny_store, tmp_path, capsys, head):
    config = FinetuneConfig(store=tiny_store, out=tmp_path / "model", head=head, steps=3, **{**SMALL, "labels": None})
    cases = Store.open(tiny_store).cases()
    late = next(case.id for case in cases if case.split == "train")
    with limited(tiny_store, [case.id for case in cases if case.id != late]):
        finetune.run(config)
    first = load_file(tmp_path / "model" / "model.safetensors")
    assert finetune.run(config)["steps"]
    assert f"1 scans came into {tiny_store} after this run began and are left out of it: {late}" in (
        said := capsys.readouterr().out
    )
    assert "already done" in said
    for name in ("model.safetensors", "model.json"):
        (tmp_path / "model" / name).unlink()
    finetune.run(config)  # goes on, from the same cases
    again = load_file(tmp_path / "model" / "model.safetensors")
    assert all((first[key] == again[key]).all() for key in first)
    with pytest.raises(UserError, match="has left the store"), limited(tiny_store, [late]):
        finetune.run(config)
    finetune.run(config.model_copy(update={"overwrite": True}))
    card = json.loads((tmp_path / "model" / "model.json").read_text())
    assert late in [case["id"] for case in card["cases"]]
