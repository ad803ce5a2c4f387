"""SimMIM: hidden patches are learnt values at the encoder's entry, and one linear layer rebuilds them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from alice3d.config import Config
from alice3d.methods.masked_reconstruction import (
    MaskedReconstruction,
    MaskedReconstructionConfig,
    MaskToken,
    patch_values,
)
from alice3d.nn.backbones.base import Backbone


class SimMIMConfig(MaskedReconstructionConfig):
    """Settings of SimMIM: absolute errors of raw voxels, as in the paper."""

    normalised: bool = False
    """Compare with voxels normalised within each patch; off = raw voxels."""
    power: Literal[1, 2] = 1
    """2 = squared errors, 1 = absolute ones."""


class SimMIM(MaskedReconstruction):
    """The encoder sees every place, hidden ones as a learnt value (SimMIM, Xie et al., CVPR 2022, section 3).

    On the residual U-Net the learnt value stands after the stem: an adaptation, the paper has transformers only.
    """

    Config: ClassVar[type[Config]] = SimMIMConfig
    paper: ClassVar[str] = "Xie et al., CVPR 2022, arXiv 2111.09886"
    defaults: ClassVar[dict[str, Any]] = {"mask_ratio": 0.6}

    def __init__(self, backbone: Backbone, config: SimMIMConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        self.mask_token = MaskToken(backbone.entry_width)
        self.to_voxels = nn.Linear(backbone.width, patch_values(backbone))
        self.start_teacher("mask_token", "to_voxels")

    def rebuild(self, volumes: Tensor, visible: Tensor, *, target: bool = False) -> Tensor:
        """See `MaskedReconstruction.rebuild`."""
        token = self.part("mask_token", target=target).value
        _, tokens = self.part("backbone", target=target).masked_tokens(volumes, visible, token)
        rebuilt: Tensor = self.part("to_voxels", target=target)(tokens)
        return rebuilt
