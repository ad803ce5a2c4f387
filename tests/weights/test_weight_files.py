"""Weights and their cards: what is written is whole, and what is damaged or wrong gets one clear line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from alice3d.errors import UserError
from alice3d.files import file_sha256
from alice3d.nn.backbones.registry import build_backbone
from alice3d.weights import files
from alice3d.weights.files import SHIPPED, load_encoder, read_card, read_model_card, read_state, save_weights

BACKBONE = {"name": "resunet", "options": {"widths": [4, 4], "blocks": [1]}, "in_channels": 1}
CARD = {
    "backbone": BACKBONE,
    "spacing_mm": [4.0, 4.0, 4.0],
    "intensity": {"modality": "ct", "windows": [[-200.0, 300.0]]},
    "crop": 16,
    "cases": [{"id": "a", "checksum": "1" * 64}],
}
SEGMENTER = {**CARD, "task": "segmentation", "head": "unet", "labels": {"1": "liver"}, "single_piece": [1]}
CLASSIFIER = {
    **CARD,
    "task": "classification",
    "classes": ["a", "b"],
    "pool": "mean",
    "points": True,
    "voxel_mm": [4.0] * 3,
}


def written(folder: Path, kind: str = "encoder", card: dict[str, Any] = CARD) -> Path:
    """Weights of a small backbone under a card."""
    torch.manual_seed(0)
    backbone = build_backbone(BACKBONE["name"], 1, BACKBONE["options"])  # type: ignore[arg-type]
    return save_weights(folder, kind, backbone.state_dict(), card)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*/*.safetensors")), ids=lambda path: path.parent.name)
def test_shipped_cards_hold_the_checksum_of_their_weights(path: Path) -> None:
    assert read_card(path, path.stem)["sha256"] == file_sha256(path)


def test_one_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    assert load_encoder(path)[1]["crop"] == 16
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"^encoder.safetensors: damaged, or not the file that its card was written"):
        load_encoder(path)
    card = json.loads(path.with_suffix(".json").read_text())
    del card["sha256"]  # as of an early version
    path.with_suffix(".json").write_text(json.dumps(card))
    assert load_encoder(path)[1]["crop"] == 16


def test_a_card_that_is_written_again_keeps_up_with_its_weights(tmp_path: Path) -> None:
    first = written(tmp_path)
    card = read_card(first, "encoder")
    halved = {key: value.half() for key, value in read_state(first).items()}
    again = save_weights(tmp_path / "again", "encoder", halved, card)
    assert read_state(again).keys() == halved.keys()
    assert read_card(again, "encoder")["sha256"] != card["sha256"]


def test_a_kill_between_weights_and_card_leaves_no_card_of_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path)
    monkeypatch.setattr(files, "write_text", lambda path, text: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_weights(tmp_path, "encoder", {"other": torch.zeros(3)}, CARD)
    with pytest.raises(UserError, match=r"encoder.json: the card is missing"):
        load_encoder(path)


def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)

    def full(*_: Any) -> None:
        raise SafetensorError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_weights(tmp_path, "encoder", {"other": torch.zeros(3)}, CARD)
    assert caught.value.errno == errno.ENOSPC
    assert load_encoder(path)[1]["crop"] == 16  # the earlier ones stay as they were


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("encoder", {"backbone": None}, "the card lacks backbone"),
        ("encoder", {"backbone": "resunet"}, "backbone: .*, got 'resunet'"),
        ("encoder", {"backbone": {}}, "the card lacks backbone.name, backbone.in_channels"),
        ("encoder", {"backbone": {**BACKBONE, "in_channels": "two"}}, "backbone.in_channels: .*, got 'two'"),
        ("encoder", {"backbone": {**BACKBONE, "in_channels": 2}}, "in_channels is 2, but intensity gives 1 channels"),
        ("encoder", {"backbone": {**BACKBONE, "options": [1]}}, "backbone.options: .*dictionary"),
        ("encoder", {"spacing_mm": 4}, "spacing_mm: .*, got 4"),
        ("encoder", {"spacing_mm": [4, 4]}, "spacing_mm.2: too few numbers"),
        ("encoder", {"spacing_mm": [0, 4, 4]}, "spacing_mm.0: .*greater than 0, got 0"),
        ("encoder", {"spacing_mm": ["x", 4, 4]}, "spacing_mm.0: .*, got 'x'"),
        ("encoder", {"intensity": "ct"}, "intensity: .*, got 'ct'"),
        ("encoder", {"intensity": {"modality": "ct", "windos": []}}, "intensity.windos: "),
        (
            "encoder",
            {"intensity": {"modality": "ct", "windows": [[300, -200]]}},
            "intensity: windows: low 300 must lie below high -200",
        ),
        ("encoder", {"crop": "big"}, "crop: .*, got 'big'"),
        ("encoder", {"crop": 0}, "crop: .*, got 0"),
        ("encoder", {"method": "alice"}, "method: "),
        ("encoder", {"cases": "all"}, "cases: .*list"),
        ("encoder", {"cases": [7]}, "cases.0: "),
        ("encoder", {"cases": [{"id": "Doe^Jane"}]}, "cases.0: checksum or content of the scan is needed"),
        ("encoder", {"init": {"cases": "all"}}, "init.cases: .*list"),
        ("encoder", {"sha256": "abc"}, "sha256: "),
        ("matcher", {"matching": {"fine_width": "wide"}}, "matching.fine_width: .*, got 'wide'"),
        *(("model", {**SEGMENTER, name: None}, f"the card lacks {name}") for name in ("head", "labels", "crop")),
        ("model", {**SEGMENTER, "head": "foo"}, "head: .*, got 'foo'"),
        ("model", {**SEGMENTER, "labels": ["liver"]}, "labels: .*dictionary"),
        ("model", {**SEGMENTER, "labels": {"x": "liver"}}, "labels.x: .*, got 'x'"),
        ("model", {**SEGMENTER, "single_piece": [99]}, "single_piece names a value"),
        ("model", {**SEGMENTER, "encoder": {"cases": "all"}}, "encoder.cases: .*list"),
        *(("model", {**CLASSIFIER, name: None}, f"the card lacks {name}") for name in ("classes", "pool", "points")),
        ("model", {**CLASSIFIER, "classes": ["one"]}, "classes: "),
    ],
)
def test_a_wrong_card_names_its_file_and_field(tmp_path: Path, kind: str, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path, kind)
    read_card(path, kind)
    card = {**json.loads(path.with_suffix(".json").read_text()), **change}
    path.with_suffix(".json").write_text(json.dumps({key: value for key, value in card.items() if value is not None}))
    with pytest.raises(UserError, match=rf"^{kind}\.json: .*{message}") as caught:
        read_card(path, kind)
    assert "\n" not in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_cards_may_hold_more_than_this_version_knows(tmp_path: Path) -> None:
    for kind, card in (("encoder", CARD), ("matcher", CARD), ("model", SEGMENTER), ("model", CLASSIFIER)):
        path = written(tmp_path, kind, {**card, "new": {"key": 1}, "init": "of an early version"})
        assert read_card(path, kind)["new"] == {"key": 1}
    assert read_model_card(tmp_path, "classification")[1]["classes"] == ["a", "b"]
    with pytest.raises(UserError, match="task is 'classification', expected 'segmentation'"):
        read_model_card(tmp_path, "segmentation")
