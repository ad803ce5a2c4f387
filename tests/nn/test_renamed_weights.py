"""What weights are is said by their card: a file may be called anything."""

from pathlib import Path

import pytest
import torch

from alice3d.errors import UserError
from alice3d.methods.base import find_method, method_config
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.embedding import FPN3D
from alice3d.pretraining.warm_start import load_matching
from alice3d.weights.files import load_encoder, load_matcher, read_card_of, save_weights

OPTIONS = {"widths": [4, 4, 8, 8], "blocks": [1, 1, 1]}
NAMES = ["my_weights", "matcher-old", "encoder_v2", "matcher", "encoder"]


def renamed(folder: Path, kind: str, name: str) -> tuple[Path, torch.nn.Module]:
    """Weights of a kind in a file of that name, and the backbone in them."""
    torch.manual_seed(1)
    backbone = build_backbone("resunet", 1, OPTIONS)
    net = FPN3D(backbone, fine_width=4, coarse_width=4) if kind == "matcher" else backbone
    card = {
        "backbone": {"name": "resunet", "in_channels": 1, "options": OPTIONS},
        "spacing_mm": [4.0, 4.0, 4.0],
        "intensity": {"modality": "ct", "windows": [[-200, 300]]},
        "cases": [],
        "matching": {"fine_width": 4, "coarse_width": 4},
    }
    path = save_weights(folder, kind, net.state_dict(), card)
    for suffix in (".safetensors", ".json"):
        path.with_suffix(suffix).rename(folder / f"{name}{suffix}")
    return folder / f"{name}.safetensors", backbone


@pytest.mark.parametrize("kind", ["encoder", "matcher"])
@pytest.mark.parametrize("name", NAMES)
def test_renamed_weights_are_read_and_started_from(tmp_path, kind, name):
    path, backbone = renamed(tmp_path, kind, name)
    read, card = load_encoder(path)
    assert card["kind"] == kind == read_card_of(path)[1]["kind"]
    assert all(torch.equal(value, read.state_dict()[key]) for key, value in backbone.state_dict().items())
    method = find_method("sam")
    torch.manual_seed(2)
    started = method(build_backbone("resunet", 1, OPTIONS), method_config(method, {}), crop=16, total_steps=1)
    load_matching(started, path)
    assert all(torch.equal(value, started.backbone.state_dict()[key]) for key, value in backbone.state_dict().items())


def test_an_encoder_is_no_matcher_whatever_its_name(tmp_path):
    path, _ = renamed(tmp_path, "encoder", "matcher")
    with pytest.raises(UserError, match=r"^matcher.json: kind is 'encoder', expected 'matcher'$"):
        load_matcher(path)
    path, _ = renamed(tmp_path, "model", "encoder")
    with pytest.raises(UserError, match=r"^encoder.json: kind is 'model', expected 'encoder' or 'matcher'$"):
        load_encoder(path)
