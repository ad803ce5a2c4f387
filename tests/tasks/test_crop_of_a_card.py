"""A card that does not say on which crops its weights learnt means the same wherever it is read."""

from pathlib import Path

import pytest
import torch

from alice3d.comparison.conditions import of_card
from alice3d.evaluation.features import read_encoder
from alice3d.nn.backbones.registry import build_backbone
from alice3d.pretraining.settings import PretrainConfig
from alice3d.tasks.initialisation import crop_side
from alice3d.tasks.settings import FinetuneSettings
from alice3d.weights.files import SHIPPED, read_card, read_card_of, save_weights

VIT = {"width": 12, "depth": 1, "heads": 2}


@pytest.mark.parametrize(("said", "crop"), [({}, 48), ({"crop": 40}, 40)])
def test_every_reader_of_a_card_takes_the_same_crop(tmp_path, said, crop):
    backbone = build_backbone("vit", 1, VIT)
    card = {
        "backbone": {"name": "vit", "options": VIT, "in_channels": 1},
        "spacing_mm": [4.0, 4.0, 4.0],
        "intensity": {"modality": "ct", "windows": [[-200, 300]]},
        "cases": [],
        **said,
    }
    save_weights(tmp_path, "encoder", backbone.state_dict(), card)
    kept = read_card_of(tmp_path)[1]
    assert read_encoder(str(tmp_path), torch.device("cpu"))[1].crop == crop
    assert of_card(kept, "its own").crop == crop
    assert crop_side(FinetuneSettings(store=Path("s"), out=Path("o")), backbone, kept) == crop


def test_a_card_without_crop_means_the_default_of_pretraining():
    assert of_card(_shipped_without_crop(), "its own").crop == PretrainConfig.model_fields["crop"].default


def _shipped_without_crop():
    path = next(SHIPPED.glob("*/encoder.safetensors"))
    return {key: value for key, value in read_card(path, "encoder").items() if key != "crop"}
