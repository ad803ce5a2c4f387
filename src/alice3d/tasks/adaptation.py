"""Fine-tuning of a pre-trained backbone with a new head: frozen steps, trained weights, learning rates."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from alice3d.nn.backbones.base import Backbone
from alice3d.nn.ema import target_of, update_ema
from alice3d.nn.layers import ChannelNorm
from alice3d.tasks.settings import BackboneSettings

NORMS = (ChannelNorm, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm3d, _BatchNorm)


def frozen_steps(settings: BackboneSettings, total_steps: int) -> int:
    """Steps in which the backbone is frozen; all of them where its learning rate is 0."""
    if not settings.backbone_lr_scale:
        return total_steps
    return round(settings.head_first * total_steps) if settings.warm_head is None else settings.warm_head


def freeze_norms(backbone: Backbone) -> None:
    """Freeze the scales and shifts of normalisation layers."""
    for module in backbone.modules():
        if isinstance(module, NORMS):
            module.requires_grad_(False)


def depths(backbone: Backbone) -> dict[str, int]:
    """Parameter name to depth: 0 before the numbered stages, n + 1 for stage n, the deepest for all later layers.

    The first number in a name counts: `stages.1.0.conv1.weight` and `down.1.0.weight` are both of stage 1.
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


def backbone_groups(backbone: Backbone, settings: BackboneSettings, total_steps: int) -> list[dict[str, Any]]:
    """Optimiser groups of the trained weights of a pre-trained backbone; none where its learning rate is 0.

    The learning rate multiplier of the deepest stage is `backbone_lr_scale`, and each stage before it has `layer_decay`
    times that of the next (BEiT, Bao et al., ICLR 2022): shallow layers, which detect edges and textures, change least.
    After `warm_head` steps, where they are given, the learning rate rises from zero as it does for the head at first.
    """
    if not settings.backbone_lr_scale:
        return []
    shared = {} if settings.warm_head is None else {"starts_at": min(settings.warm_head / total_steps, 1.0)}
    if settings.layer_decay == 1:
        learning = [p for p in backbone.parameters() if p.requires_grad]
        return [{"params": learning, "lr_scale": settings.backbone_lr_scale, **shared}]
    depth = depths(backbone)
    deepest = max(depth.values())
    groups = []
    for level in range(deepest + 1):
        params = [p for name, p in backbone.named_parameters() if depth[name] == level and p.requires_grad]
        scale = settings.backbone_lr_scale * settings.layer_decay ** (deepest - level)
        groups.append({"params": params, "lr_scale": scale, **shared})
    return [group for group in groups if group["params"]]


N = TypeVar("N", bound=nn.Module)


class TunedTask(nn.Module, Generic[N]):
    """A head trained on a backbone; implements the engine's `Method` except for `forward`, the objective.

    A pre-trained backbone is frozen at first, while the new head is trained, and then has a lower learning rate than
    the head, so that its features are kept.

    Args:
        net: backbone, as `net.backbone`, and head.
        settings: how the backbone is trained, and the EMA of the weights.
        total_steps: of the run.
        pretrained: whether the backbone is pre-trained.
    """

    net: N

    def __init__(self, net: N, settings: BackboneSettings, *, total_steps: int, pretrained: bool) -> None:
        super().__init__()
        self.net = net
        self.settings = settings
        self.total_steps, self.pretrained = total_steps, pretrained
        self.frozen_steps = frozen_steps(settings, total_steps) if pretrained else 0
        if pretrained and settings.freeze_norms:
            freeze_norms(self.backbone)
        self.averaged = target_of(net) if settings.ema_decay else None

    @property
    def backbone(self) -> Backbone:
        """The backbone."""
        found = self.net.backbone
        assert isinstance(found, Backbone)
        return found

    def param_groups(self) -> list[dict[str, Any]]:
        """The backbone with its learning rate multiplier, by layer with layer decay; the head at the full learning
        rate."""
        backbone = list(self.backbone.parameters())
        own = {id(p) for p in backbone}
        head = [p for p in self.net.parameters() if id(p) not in own]
        if not self.pretrained:
            return [{"params": head}, {"params": backbone}]
        return [{"params": head}, *backbone_groups(self.backbone, self.settings, self.total_steps)]

    def after_step(self, step: int) -> None:
        """Update the EMA weights; with a lower decay at first, so that the initial weights are soon forgotten."""
        if self.averaged is not None:
            update_ema(self.averaged, self.net, min(self.settings.ema_decay, (1 + step) / (10 + step)))

    def trained(self) -> N:
        """The exported network: with EMA weights, or the last weights without EMA."""
        return self.averaged if self.averaged is not None else self.net


BACKBONE_SETTINGS = ("backbone_lr_scale", "head_first", "warm_head", "layer_decay", "freeze_norms")
