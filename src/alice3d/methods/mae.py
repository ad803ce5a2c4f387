"""MAE: masked reconstruction alone, the first rival."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from alice3d.config import Config
from alice3d.losses.reconstruct import reconstruction_loss
from alice3d.methods.base import PretrainMethod
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.decoder import TokenDecoder


class MAEConfig(Config):
    """Settings of masked reconstruction."""

    decoder_width: Annotated[int, Field(ge=6)] = 128
    """Width of the decoder's tokens."""
    decoder_depth: Annotated[int, Field(ge=1)] = 2
    """Transformer blocks of the decoder."""
    decoder_heads: Annotated[int, Field(ge=1)] = 4
    """Attention heads of the decoder."""
    normalised: bool = True
    """Compare with voxels normalised within each patch; off = raw voxels."""
    hidden_only: bool = True
    """Count hidden patches alone; off = all patches."""


class MAE(PretrainMethod):
    """Rebuild hidden patches from visible ones (He et al., CVPR 2022), on both crops of a sample."""

    Config: ClassVar[type[Config]] = MAEConfig

    def __init__(self, backbone: Backbone, config: MAEConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        self.decoder = TokenDecoder(
            encoder_width=backbone.width,
            patch_values=backbone.stride**3 * backbone.in_channels,
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
        )

    @property
    def needs_hidden(self) -> bool:
        """Not where all patches are counted."""
        return bool(self.config.hidden_only)

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Mean squared error over the hidden patches of Q and K."""
        volumes = torch.cat([batch["q"], batch["k"]])
        visible = torch.cat([batch["visible_q"], batch["visible_k"]])
        class_token, patches = self.backbone.tokens(volumes, visible)
        _, rebuilt = self.decoder(class_token, patches, visible, self.backbone.token_grid(volumes.shape[2:]))
        clean = torch.cat([batch["q_clean"], batch["k_clean"]])
        loss = reconstruction_loss(
            rebuilt,
            clean,
            visible,
            patch=self.backbone.stride,
            normalised=self.config.normalised,
            hidden_only=self.config.hidden_only,
        )
        return {"loss": loss, "reconstruction": loss.detach()}
