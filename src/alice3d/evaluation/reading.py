"""An encoder and how it reads scans: from its card, or with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.backbones.registry import build_backbone
from alice3d.weights.files import load_encoder

USUAL_CROP = 48
"""Where a card does not say."""


@dataclass(frozen=True)
class Reading:
    """How an encoder reads scans.

    Attributes:
        rule: voxels to channels.
        spacing_mm: of the scans on reading.
        crop: voxels a side of the crops it learnt from.
        device: where it runs.
    """

    rule: IntensityRule
    spacing_mm: tuple[float, float, float]
    crop: int
    device: torch.device


def read_encoder(name_or_path: str, device: torch.device) -> tuple[Backbone, Reading, dict[str, Any]]:
    """An encoder in evaluation mode, how it reads, and its card.

    Raises:
        UserError: missing, damaged, or not what its card says.
    """
    backbone, card = load_encoder(name_or_path)
    x, y, z = (float(mm) for mm in card["spacing_mm"])
    reading = Reading(IntensityRule(**card["intensity"]), (x, y, z), int(card.get("crop", USUAL_CROP)), device)
    return backbone.eval(), reading, card


def untrained_encoder(
    name: str,
    options: dict[str, Any],
    rule: IntensityRule,
    spacing_mm: tuple[float, float, float],
    crop: int,
    device: torch.device,
    seed: int,
) -> tuple[Backbone, Reading]:
    """A backbone with the random weights that training with this seed begins with; no draw is left behind.

    Args:
        name, options: of the backbone.
        rule, spacing_mm, crop, device: see `Reading`.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(name, rule.channels, options)
    return backbone.eval(), Reading(rule, spacing_mm, crop, device)
