"""How a pre-trained trunk learns beside a new head: from which step on, which of its weights, at which rate."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from alice3d.nn.base import Backbone
from alice3d.nn.layers import ChannelNorm
from alice3d.tasks.settings import TrunkSettings

NORMS = (ChannelNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm3d, _BatchNorm)


def frozen_steps(settings: TrunkSettings, total_steps: int) -> int:
    """Steps in which the trunk stands still; all of them where its rate is 0."""
    if not settings.backbone_rate:
        return total_steps
    return round(settings.head_first * total_steps) if settings.warm_head is None else settings.warm_head


def freeze_norms(backbone: Backbone) -> None:
    """Take the scales and shifts of normalisation layers out of learning."""
    for module in backbone.modules():
        if isinstance(module, NORMS):
            module.requires_grad_(False)


def depths(backbone: Backbone) -> dict[str, int]:
    """Parameter name to depth: 0 before the numbered stages, n + 1 for stage n, the deepest for what comes after.

    A name's first number counts: `stages.1.0.conv1.weight` and `down.1.0.weight` are both of stage 1.
    """
    found: dict[str, int] = {}
    staged = False
    for name, _ in backbone.named_parameters():
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        # `class_token.0` of the residual U-Net is a layer after all stages, not a stage
        if numbers and isinstance(getattr(backbone, name.split(".")[0]), nn.ModuleList):
            staged = True
            found[name] = numbers[0] + 1
        else:
            found[name] = -1 if staged else 0
    deepest = max(found.values(), default=0)
    return {name: deepest if depth < 0 else depth for name, depth in found.items()}


def trunk_groups(backbone: Backbone, settings: TrunkSettings, total_steps: int) -> list[dict[str, Any]]:
    """Optimiser groups of what learns in a pre-trained trunk; none where its rate is 0.

    The rate of the deepest stage is `backbone_rate`, and each stage before it learns at `layer_decay` times the rate of
    the next (BEiT, Bao et al., ICLR 2022): shallow layers, which see edges and textures, change least. After
    `warm_head` steps, where they are given, the rate rises from zero as it does for the head at first.
    """
    if not settings.backbone_rate:
        return []
    shared = {} if settings.warm_head is None else {"starts_at": min(settings.warm_head / total_steps, 1.0)}
    if settings.layer_decay == 1:
        learning = [p for p in backbone.parameters() if p.requires_grad]
        return [{"params": learning, "lr_scale": settings.backbone_rate, **shared}]
    depth = depths(backbone)
    deepest = max(depth.values())
    groups = []
    for level in range(deepest + 1):
        params = [p for name, p in backbone.named_parameters() if depth[name] == level and p.requires_grad]
        scale = settings.backbone_rate * settings.layer_decay ** (deepest - level)
        groups.append({"params": params, "lr_scale": scale, **shared})
    return [group for group in groups if group["params"]]
