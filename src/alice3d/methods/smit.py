"""SMIT: masked image prediction, with self-distillation of hidden patches and of whole views."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from alice3d.config import Config
from alice3d.methods.dino import DINO, DINOConfig, Ratio, Weight


class SMITConfig(DINOConfig):
    """Settings of SMIT: all whole views are masked, and the losses have the paper's weights."""

    class_weight: Weight = 0.1
    """Weight of the class tokens' agreement between views (image token distillation)."""
    patch_weight: Weight = 0.1
    """Weight of hidden patches' agreement with the whole view (masked patch distillation)."""
    koleo_weight: Weight = 0.0
    """Weight of KoLeo, which SMIT does not have."""
    reconstruction_weight: Weight = 1.0
    """Weight of rebuilding hidden voxels by one linear layer (masked image prediction)."""
    small_views: Annotated[int, Field(ge=0)] = 0
    """Crops of half the side; SMIT has none."""
    masked_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the whole views with a mask."""
    mask_ratios: tuple[Ratio, Ratio] | None = (0.7, 0.7)
    """Share of hidden patches of a masked view, drawn between the two; none = `--mask-ratio`."""
    balance: Literal["sinkhorn", "centre"] = "centre"
    """What keeps the target from collapsing; the paper centres."""


class SMIT(DINO):
    """Self-distilled masked image transformer (SMIT, Jiang et al., MICCAI 2022): L1 + 0.1 patch + 0.1 image.

    The paper's Swin has no class token: here, too, a linear map of the mean over the tokens stands for the image.
    """

    Config: ClassVar[type[Config]] = SMITConfig
    paper: ClassVar[str] = "Jiang et al., MICCAI 2022, arXiv 2205.10342"
