"""The recipes for GPUs run from end to end: the same calls as their headers give, on generated patients, made tiny."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from calling import call, result

from alice3d.data.pairs import PairRows
from alice3d.data.pairs.table import write_part, write_table
from alice3d.data.store import Store
from alice3d.tasks.segmentation.model import load_model
from alice3d.weights.files import load_encoder

TINY = {"steps": 2, "batch": 2, "crop": 16, "workers": 0, "threads": 1}
VIT = {"width": 24, "depth": 2, "heads": 2}
HEADS = {"decoder_width": 12, "decoder_heads": 2, "casa_heads": 2, "hidden": 8, "bottleneck": 4, "prototypes": 8}


def small(**groups: dict[str, object]) -> list[str]:
    """Options that make a recipe tiny and leave the rest of it as it is."""
    words = [word for key, value in TINY.items() for word in (f"--{key}", str(value))]
    for group, values in groups.items():
        words += [word for key, value in values.items() for word in (f"--{group}.{key}", str(value))]
    return words


@pytest.fixture(scope="module")
def pairs(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of one scan pair: the same place relative to the body's middle."""
    folder, store = tmp_path_factory.mktemp("pairs"), Store.open(tiny_store)
    query, key = store.cases("pretrain")[:2]
    middles = [np.mean(case.body_box_mm, axis=0) for case in (query, key)]
    points = np.random.default_rng(0).uniform(-60, 60, (200, 3)) + middles[0]
    matched = points + (middles[1] - middles[0])
    ones = np.ones(200, np.float32)
    rows = PairRows(points.astype(np.float32), matched.astype(np.float32), ones, ones, ones, ones, np.ones(200, bool))
    write_part(folder / "parts" / "0.npz", rows)
    write_table(folder, [(query.id, key.id)], [folder / "parts" / "0.npz"], {"store": store.checksum, "matcher": "m"})
    return folder


@pytest.fixture(scope="module")
def encoder(tiny_store: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory, request) -> Path:
    """What `flare22-pretrain` writes, at a width of 24."""
    from alice3d.cli_arguments import parse
    from alice3d.commands.pretrain import run
    from alice3d.pretraining.settings import PretrainConfig

    out = tmp_path_factory.mktemp("encoder") / "encoder"
    words = ["--config", "flare22-pretrain", "--pairs", str(pairs), "--accumulate", "2"]
    words += small(backbone_options=VIT, options=HEADS)
    run(parse("pretrain", "", PretrainConfig, [str(tiny_store), str(out), *words]).config)
    return out


def test_pretraining_for_the_three_tasks_keeps_what_the_recipe_says(encoder: Path) -> None:
    backbone, card = load_encoder(encoder)
    assert card["backbone"]["options"] == {"size": "base", "patch": 8, "registers": 4, "checkpoint": True, **VIT}
    assert card["partner"] == "matched"
    assert card["method"]["options"]["momentum"] == 0.996
    assert backbone.checkpoint


@pytest.mark.parametrize("recipe", ["flare22", "btcv"])
def test_segmentation_recipes(capsys, tiny_store: Path, encoder: Path, tmp_path: Path, recipe: str) -> None:
    words = ("finetune", tiny_store, tmp_path / "m", "--config", recipe, "--encoder", encoder, *small())
    assert result(capsys, *words)["steps"] == 2
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    assert (card["task"], card["head"], card["backbone"]["name"]) == ("segmentation", "unet", "vit")
    load_model(tmp_path / "m")


def test_classification_recipe(capsys, tiny_store: Path, encoder: Path, tmp_path: Path) -> None:
    store = Store.open(tiny_store)
    with (tmp_path / "classes.csv").open("w", newline="") as file:
        rows = [(case.id, "ill" if i % 2 else "well") for i, case in enumerate(store.cases("train"))]
        csv.writer(file).writerows([("case", "class"), *rows])
    words = ("finetune", tiny_store, tmp_path / "m", "--config", "covid-ct", "--encoder", encoder)
    assert result(capsys, *words, "--classes", tmp_path / "classes.csv", *small())["steps"] == 2
    assert json.loads((tmp_path / "m" / "model.json").read_text())["task"] == "classification"


def test_the_papers_settings(capsys, tiny_store: Path, pairs: Path, tmp_path: Path) -> None:
    words = ("pretrain", tiny_store, tmp_path / "e", "--config", "alice-paper", "--pairs", pairs)
    assert result(capsys, *words, *small(backbone_options=VIT, options=HEADS))["steps"] == 2
    _, card = load_encoder(tmp_path / "e")
    assert card["intensity"]["windows"] == [[-125, 225]]
    assert (card["method"]["options"]["balance"], card["method"]["options"]["dense_weight"]) == ("centre", 0)


@pytest.mark.parametrize("method", ["alice", "mae"])
def test_the_swin_takes_the_whole_road(capsys, tiny_store: Path, pairs: Path, tmp_path: Path, method: str) -> None:
    swin = {"width": 6, "depths": "1,2,1", "heads": "1,2,2", "window": 4}
    heads = HEADS if method == "alice" else {key: HEADS[key] for key in ("decoder_width", "decoder_heads")}
    words = ("pretrain", tiny_store, tmp_path / "e", "--method", method, "--backbone", "swin", "--pairs", pairs)
    result(capsys, *words, *small(backbone_options=swin, options=heads))
    words = ("finetune", tiny_store, tmp_path / "m", "--encoder", tmp_path / "e", "--labels", "1", *small())
    assert result(capsys, *words)["steps"] == 2
    scores = result(capsys, "evaluate", tmp_path / "m", tiny_store, "--split", "val")
    assert 0 <= scores["dice"]["mean"] <= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("pretrain", "--backbone", "vit", "--backbone-options.width", 36, "--backbone-options.heads", 2),
            "36.*heads 8",
        ),
        (("pretrain", "--options.decoder_width", 18, "--options.decoder_heads", 4), "18.*heads 4"),
        (("train-matcher", "--backbone", "swin"), "strides 1, 2, 4, 8"),
        (("pretrain", "--options.local_views", 1, "--crop", 8), "8 voxels.*stride 8"),
    ],
)
def test_sizes_that_do_not_fit_are_the_callers_error(capsys, tiny_store, tmp_path, words, message) -> None:
    code, _, err = call(capsys, words[0], tiny_store, tmp_path / "e", *words[1:])
    assert code == 2
    assert re.search(message, err)
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "e").exists()
