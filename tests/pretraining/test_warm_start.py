"""Training that starts from weights follows their card, and its own card knows all that they ever saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from in_processes import SMALL, pretrain

from alice3d.data.sampling.base import Masks
from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.nn.backbones.registry import build_backbone
from alice3d.pretraining.job import prepare_training
from alice3d.pretraining.settings import PretrainConfig
from alice3d.weights.files import save_weights
from alice3d.weights.provenance import leaked

VIT = {"width": 12, "depth": 1, "heads": 2}
QUICK = {**SMALL, "steps": 1, "monitor_every": 0, "workers": 0}
CT = {"modality": "ct", "windows": [[-125, 225]]}


def weights(folder: Path, name: str = "vit", options: dict[str, Any] | None = None, **card: Any) -> str:
    """An untrained encoder of one channel, at 4 mm."""
    options = VIT if options is None else options
    about = {"backbone": {"name": name, "options": options, "in_channels": 1}, "spacing_mm": [4.0, 4.0, 4.0]}
    save_weights(
        folder,
        "encoder",
        build_backbone(name, 1, options).state_dict(),
        {**about, "intensity": CT, "cases": [], "method": {"name": "mae"}, **card},
    )
    return str(folder)


def config(store: Path, out: Path, **changes: Any) -> PretrainConfig:
    given = {key: value for key, value in QUICK.items() if key != "backbone_options"}
    return PretrainConfig.checked({"store": store, "out": out, **given, **changes}, "test")


def prepared(made: PretrainConfig) -> Any:
    return prepare_training(made, made.method, made.options, partner="same", masks=Masks())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backbone": "resunet"}, "--backbone resunet: the weights of --init are of vit; leave one out"),
        ({"backbone_options": {"width": 24}}, "--backbone-options.width 24: the weights of --init have 12"),
        ({"backbone_options": {"registers": 4}}, "--backbone-options.registers 4: the weights of --init have 0"),
        ({"backbone_options": {"widht": 24}}, "did you mean 'width'"),
        ({"windows": "-200:300,wide"}, "--windows -200:300,wide: the weights of --init read -125:225"),
    ],
)
def test_settings_that_contradict_the_card_are_refused(
    tiny_store: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        prepared(config(tiny_store, tmp_path / "run", init=weights(tmp_path / "vit"), **changes))
    assert not (tmp_path / "run").exists()


def test_weights_of_another_modality_are_refused(tiny_store: Path, tmp_path: Path) -> None:
    init = weights(tmp_path / "vit", intensity={"modality": "mr", "windows": []})
    said = "--init: the weights learnt from MR, the store holds CT; leave it out or give weights of CT"
    with pytest.raises(UserError, match=said):
        prepared(config(tiny_store, tmp_path / "run", init=init))


def test_what_says_the_same_or_changes_no_weight_is_taken(tiny_store: Path, tmp_path: Path) -> None:
    options = {"width": 12, "patch": 8, "checkpoint": True}
    init = weights(tmp_path / "vit")
    job = prepared(
        config(tiny_store, tmp_path / "run", init=init, backbone="vit", backbone_options=options, windows="-125:225")
    )
    assert job.card["backbone"]["options"] == {**VIT, "checkpoint": True}
    assert job.method.backbone.checkpoint


def test_the_run_records_the_cards_network_and_goes_on(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, init = tmp_path / "run", weights(tmp_path / "vit")
    changes = {"backbone_options": {}, "steps": 1, "monitor_every": 0, "init": init}
    pretrain(tiny_store, out, changes)
    said = capsys.readouterr().out
    assert "at the store's spacing of 8 x 8 x 8 mm; the weights of --init learnt at 4 x 4 x 4 mm" in said
    kept = yaml.safe_load((out / "config.yaml").read_text())
    assert (kept["backbone"], kept["backbone_options"], kept["windows"]) == ("vit", VIT, "-125:225")
    page = (out / "curves.html").read_text()
    assert "alice on vit" in page
    assert "Grey" not in page
    for same in ({}, {"backbone": "vit", "backbone_options": {"width": 12}}, {"windows": "-125:225"}):
        pretrain(tiny_store, out, {**changes, **same})
        assert "already done" in capsys.readouterr().out


def test_scans_that_any_start_saw_are_known_after_three_hops(tiny_store: Path, tmp_path: Path) -> None:
    cases = Store.open(tiny_store).cases()
    first, second, third = ("test", "val", "train")
    init = None
    for split in (first, second, third, "pretrain"):
        made = config(tiny_store, tmp_path / split, split=split, init=init, backbone="vit", backbone_options=VIT)
        job = prepared(made)
        save_weights(tmp_path / split, "encoder", job.method.backbone.state_dict(), job.card)
        init = str(tmp_path / split)
    card = json.loads((tmp_path / "pretrain" / "encoder.json").read_text())
    assert leaked(card, cases) == sorted(case.id for case in cases)
    assert {case["id"] for case in card["cases"]} == {case.id for case in cases if case.split == "pretrain"}
    hops = [card["init"], card["init"]["init"], card["init"]["init"]["init"]]
    assert [hop["method"] for hop in hops] == ["alice"] * 3
    assert all(len(hop["checksum"]) == 64 for hop in hops)
    assert hops[-1]["init"] is None
    assert len(card["init"]["cases"]) == len([case for case in cases if case.split in (first, second, third)])
