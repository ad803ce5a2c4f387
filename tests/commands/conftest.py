"""Fixtures of the command tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.embedding import FPN3D
from alice3d.weights.files import save_weights


@pytest.fixture(scope="session")
def tiny_matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained network at 8 mm that believes everything it finds."""
    folder = tmp_path_factory.mktemp("matchers") / "tiny"
    options = {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1]}
    torch.manual_seed(0)
    network = FPN3D(build_backbone("resunet", 2, options), fine_width=8, coarse_width=8)
    anything = {"similarity": -1.0, "cycle_mm": 1e6, "fit_mm": 1e6, "certainty": 0.0}
    card = {
        "backbone": {"name": "resunet", "in_channels": 2, "options": options},
        "spacing_mm": [8.0, 8.0, 8.0],
        "intensity": {"modality": "ct"},
        "cases": [],
        "matching": {"mode": "robust", "fine_width": 8, "coarse_width": 8, "acceptance": anything},
    }
    save_weights(folder, "matcher", network.state_dict(), card)
    json.loads((folder / "matcher.json").read_text())
    return folder
