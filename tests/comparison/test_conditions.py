"""`alice compare`: what arms are read and trained under, what is equal to them, and what is said where they differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from calling import call, result

from alice3d.comparison.cells import Cells
from alice3d.comparison.checks import check
from alice3d.comparison.conditions import described, differences
from alice3d.comparison.finetuning import finetune_config
from alice3d.comparison.run import arms_of
from alice3d.comparison.settings import CompareConfig
from alice3d.errors import UserError

VIT = {"backbone": "vit", "backbone_options": {"width": 24, "depth": 1, "heads": 2}}


@pytest.fixture
def cells(tiny_store, tmp_path):
    def make(**given: object) -> Cells:
        common = {"store": tiny_store, "out": tmp_path / "out", "split": "test", "labels": [2], "seeds": [0]}
        config = CompareConfig.checked({**common, **given}, "compare")
        return Cells(config, arms_of(config))

    return make


@pytest.fixture
def other_matcher(tiny_matcher, tmp_path) -> Path:
    """The tiny matcher with a window, a spacing and a crop of its own."""
    folder = tmp_path / "other"
    shutil.copytree(tiny_matcher, folder)
    card = json.loads((folder / "matcher.json").read_text())
    card |= {"intensity": {"modality": "ct", "windows": [[-125, 225], [0, 80]]}, "spacing_mm": [9, 9, 9], "crop": 24}
    (folder / "matcher.json").write_text(json.dumps(card))
    return folder


@pytest.mark.parametrize("asked", [{}, {"crop": 64}])
def test_scratch_is_fine_tuned_on_the_crops_of_the_arms_that_it_is_held_against(cells, tiny_store, asked):
    made = cells(methods="alice,scratch", measures="finetune", pretrain={**VIT, "crop": 48}, finetune=asked)
    check(made)
    config = finetune_config(made, made.arms["scratch"], None, 2, 0)
    assert config.crop == asked.get("crop", 48)
    assert (config.backbone, config.backbone_options) == ("vit", VIT["backbone_options"])


def test_arms_that_would_be_fine_tuned_on_other_crops_are_refused(cells):
    given = {"arms": {"a": {}, "b": {"crop": 32}}, "measures": "finetune", "pretrain": {**VIT, "crop": 48}}
    with pytest.raises(UserError, match=r"different crop sizes \(a 48, b 32\); give --finetune.crop"):
        check(cells(**given))
    check(cells(**given, finetune={"crop": 48}))
    check(cells(**given, finetune_arms="a"))


def test_what_is_given_for_all_arms_wins_over_a_recipe_and_the_rest_of_it_is_named(cells):
    made = cells(
        arms={"alice": {}, "alice-paper": {"recipe": "alice-paper", "batch": 3}, "mae": {"recipe": "mae"}},
        pretrain={"method": "alice", "steps": 40, "batch": 2, "options": {"hidden": 64}},
    )
    paper = made.pretrain_config(made.arms["alice-paper"], 0)
    assert (paper.steps, paper.batch, paper.crop, paper.backbone) == (40, 3, 64, "vit")
    assert (paper.options["hidden"], paper.options["prototypes"]) == (64, 512)
    assert made.arms["mae"].pretrain["method"] == "mae"
    named = {key for key, *_ in differences(made.conditions, "alice")["alice-paper"]}
    assert {"batch", "crop", "backbone", "backbone_options", "windows", "learning_rate"} <= named
    assert "steps" not in named
    text = "\n".join(described(made.conditions, "alice"))
    assert "- `alice-paper`: backbone vit, not resunet" in text
    assert "batch 3, not 2" in text
    assert "windows -125:225, not -200:300,-1000:1000" in text
    assert "same initial weights" not in text
    assert "same crops" not in text


def test_another_backbone_for_all_arms_leaves_out_the_options_of_the_recipes(cells):
    made = cells(arms={"paper": {"recipe": "alice-paper"}}, pretrain={"backbone": "swin"})
    trained = made.pretrain_config(made.arms["paper"], 0)
    assert (trained.backbone, trained.backbone_options) == ("swin", {})


@pytest.mark.parametrize(
    ("given", "weights", "crops", "differs"),
    [
        ({"methods": "alice,mae,scratch"}, True, True, {}),
        ({"arms": {"a": {}, "no-casa": {"options": {"casa": False}}}}, True, True, {}),
        ({"arms": {"a": {}, "crop-24": {"crop": 24}, "b": {}}}, True, False, {"crop-24": "crop 24, not 48"}),
        ({"arms": {"a": {}, "r": {"partner": "random"}}}, True, False, {"r": "partner random, not same"}),
        ({"arms": {"a": {}, "long": {"steps": 9}}}, True, False, {"long": "steps 9, not 2000"}),
        ({"arms": {"a": {}, "theirs": {"encoder": "MATCHER"}}}, False, False, {"theirs": "windows -125:225,0:80, not"}),
        ({"methods": "alice,scratch", "init": "MATCHER"}, False, False, {"scratch": ""}),
    ],
)
def test_only_what_is_true_is_said_of_arms(cells, other_matcher, given, weights, crops, differs):
    given = json.loads(json.dumps(given).replace("MATCHER", str(other_matcher)))
    made = cells(**given)
    text = "\n".join(described(made.conditions, next(iter(made.arms))))
    assert ("Every arm has the same initial weights" in text) == weights
    assert ("the same crops" in text) == crops
    for name, said in differs.items():
        assert f"`{name}`" in text
        assert said in text
    assert ("Arms that differ" in text) == any(differs.values())


def test_scratch_reads_as_the_warm_start_does(cells, other_matcher):
    alone = cells(methods="init,scratch", init=str(other_matcher)).conditions
    assert alone["scratch"].shown() == alone["init"].shown()
    assert alone["scratch"].crop == 24
    assert alone["scratch"].spacing_mm == (9, 9, 9)
    trained = cells(methods="alice,scratch", init=str(other_matcher), pretrain={"crop": 32}).conditions
    assert trained["scratch"].rule == trained["alice"].rule == alone["init"].rule
    assert (trained["scratch"].crop, trained["scratch"].options) == (32, alone["init"].options)
    made = cells(methods="init,scratch", init=str(other_matcher), measures="finetune")
    with pytest.raises(UserError, match="prepare a store at theirs"):
        check(made)


def test_scratch_follows_the_arms_and_is_refused_where_they_disagree(cells):
    assert cells(arms={"v": VIT, "s": {"method": "scratch"}}).conditions["s"].backbone == "vit"
    both = {"r": {}, "v": VIT}
    with pytest.raises(UserError, match="arm s: r and v differ in backbone, so no scratch arm matches both"):
        cells(arms={**both, "s": {"method": "scratch"}}).conditions  # noqa: B018
    windows = {"a": {}, "b": {"windows": "-125:225"}}
    with pytest.raises(UserError, match="a and b differ in windows"):
        cells(arms={**windows, "s": {"method": "scratch"}}).conditions  # noqa: B018
    found = cells(arms={**both, "s": {"method": "scratch", **VIT}, "t": {"method": "scratch", "backbone": "resunet"}})
    assert (found.conditions["s"].backbone, found.conditions["t"].backbone) == ("vit", "resunet")
    narrow = cells(arms={**windows, "s": {"method": "scratch", "windows": "-125:225"}}).conditions["s"]
    assert narrow.rule.windows == ((-125, 225),)
    with pytest.raises(UserError, match="arm s: backbone: 'vitt' is unknown"):
        check(cells(arms={"s": {"method": "scratch", "backbone": "vitt"}}))
    with pytest.raises(UserError, match="arm s: crop 20 is no multiple"):
        check(cells(arms={"s": {"method": "scratch", **VIT, "crop": 20}}))


def test_the_page_and_the_console_name_the_arms_that_differ(capsys, tiny_store, tiny_matcher, other_matcher, tmp_path):
    path = tmp_path / "compare.yaml"
    path.write_text(
        json.dumps({"arms": {"one": {"encoder": str(tiny_matcher)}, "two": {"encoder": str(other_matcher)}}})
    )
    words = ("compare", tiny_store, tmp_path / "out", "--config", path, "--measures", "knn", "--split", "test")
    code, out, err = call(capsys, *words, "--labels", "2", "--seeds", "0", "--threads", "1")
    assert code == 0, err
    assert "Arms whose conditions differ from one (see compare.md): two (windows, spacing_mm, crop)" in out
    page = (tmp_path / "out" / "compare.md").read_text()
    assert "Initial weights differ: its own (`one`); its own (`two`)." in page
    assert "- `two`: windows -125:225,0:80, not -200:300,-1000:1000; spacing_mm 9 x 9 x 9, not 8 x 8 x 8" in page


def test_scratch_is_measured_again_when_what_is_equal_to_the_arms_changes(capsys, tiny_store, tiny_matcher, tmp_path):
    words = ("compare", tiny_store, tmp_path / "out", "--measures", "knn", "--split", "test", "--labels", "2")
    config = tmp_path / "compare.yaml"

    def score(**own: object) -> float:
        config.write_text(json.dumps({"arms": {"scratch": {"method": "scratch", **own}}, "seeds": [0]}))
        return result(capsys, *words, "--config", config)["table"][0]["value"]

    tiny = {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1]}
    assert score(backbone_options=tiny) != score(backbone_options=tiny, windows="-10:10,-20:20")
