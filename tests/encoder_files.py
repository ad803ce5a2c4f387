"""Untrained encoders, each with its card, as files."""

from __future__ import annotations

from pathlib import Path

import torch

from alice3d.nn.backbones.registry import build_backbone
from alice3d.weights.files import save_weights

RESUNET = {"name": "resunet", "options": {"widths": [4, 8, 12], "blocks": [1, 1]}, "in_channels": 2}
VIT = {"name": "vit", "options": {"patch": 6, "width": 24, "depth": 4, "heads": 2}, "in_channels": 2}
INTENSITY = {"modality": "ct", "windows": [[-200, 300], [-1000, 1000]]}


def write_encoder(folder: Path, described: dict, cases: list | None = None, spacing_mm: float = 8.0) -> Path:
    """An untrained encoder with a card."""
    torch.manual_seed(0)
    backbone = build_backbone(described["name"], described["in_channels"], described["options"])
    card = {"backbone": described, "spacing_mm": [spacing_mm] * 3, "intensity": INTENSITY, "crop": 24}
    save_weights(folder, "encoder", backbone.state_dict(), {**card, "cases": cases or []})
    return folder
