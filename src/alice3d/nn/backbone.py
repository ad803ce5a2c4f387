"""Backbones by name."""

from __future__ import annotations

import difflib
from typing import Any

from alice3d.errors import UserError
from alice3d.nn.base import Backbone
from alice3d.nn.resunet import ResUNet
from alice3d.nn.swin3d import Swin3D
from alice3d.nn.vit3d import ViT3D

__all__ = ["BACKBONES", "Backbone", "build_backbone"]

BACKBONES: dict[str, type[Backbone]] = {"resunet": ResUNet, "vit": ViT3D, "swin": Swin3D}


def build_backbone(name: str, in_channels: int, options: dict[str, Any] | None = None) -> Backbone:
    """Build a backbone by name.

    Args:
        name: one of `BACKBONES`.
        in_channels: channels of the volumes.
        options: keyword arguments of the backbone's class.

    Raises:
        UserError: unknown name or option.
    """
    if name not in BACKBONES:
        near = difflib.get_close_matches(name, BACKBONES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(BACKBONES)}"
        raise UserError(f"backbone: {name!r} is unknown; {hint}")
    try:
        return BACKBONES[name](in_channels=in_channels, **(options or {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"backbone {name}: {error}") from error
