"""MAE: masked reconstruction by an encoder of visible patches and a light decoder of all."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from alice3d.config import Config
from alice3d.data.sampling.matched_pair import PairWants
from alice3d.methods.masked_reconstruction import MaskedReconstruction, MaskedReconstructionConfig, patch_values
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.decoder import TokenDecoder


class MAEConfig(MaskedReconstructionConfig):
    """Settings of masked reconstruction."""

    decoder_width: Annotated[int, Field(ge=6)] = 128
    """Width of the decoder's tokens."""
    decoder_depth: Annotated[int, Field(ge=1)] = 2
    """Transformer blocks of the decoder."""
    decoder_heads: Annotated[int, Field(ge=1)] = 4
    """Attention heads of the decoder."""


class MAE(MaskedReconstruction):
    """Rebuild hidden patches from visible ones (He et al., CVPR 2022), on both crops of a sample."""

    Config: ClassVar[type[Config]] = MAEConfig
    paper: ClassVar[str] = "He et al., CVPR 2022, arXiv 2111.06377"

    def __init__(self, backbone: Backbone, config: MAEConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        self.decoder = TokenDecoder(
            encoder_width=backbone.width,
            patch_values=patch_values(backbone),
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
        )
        self.start_teacher("decoder")

    def wants(self) -> PairWants:
        """As Alice's, so that both learn from the same crops and masks."""
        return PairWants()

    def rebuild(self, volumes: Tensor, visible: Tensor, *, target: bool = False) -> Tensor:
        """See `MaskedReconstruction.rebuild`."""
        backbone: Backbone = self.part("backbone", target=target)
        class_token, patches = backbone.tokens(volumes, visible)
        grid = backbone.token_grid(volumes.shape[2:])
        _, rebuilt = self.part("decoder", target=target)(class_token, patches, visible, grid)
        return rebuilt  # type: ignore[no-any-return]
