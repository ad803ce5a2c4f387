"""DINO with iBOT: views of one scan give one answer, and hidden patches that of the whole view."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from alice3d.config import Config
from alice3d.data.sampling.base import Sampler
from alice3d.data.sampling.several_views import SeveralViews, ViewsWants
from alice3d.losses.distill import distillation_loss, koleo, masked_distillation_loss
from alice3d.losses.reconstruct import reconstruction_loss
from alice3d.methods.masked_reconstruction import MaskToken, patch_values
from alice3d.methods.self_distillation import SelfDistillation, SelfDistillationConfig
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.heads.prototypes import PrototypeHead

Weight = Annotated[float, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, lt=1)]


class DINOConfig(SelfDistillationConfig):
    """Settings of DINO with iBOT."""

    class_weight: Weight = 1.0
    """Weight of the class tokens' agreement between views (DINO)."""
    patch_weight: Weight = 1.0
    """Weight of hidden patches' agreement with the whole view (iBOT)."""
    koleo_weight: Weight = 0.1
    """Weight of KoLeo on the class tokens of each whole view, which spreads those of a batch apart (DINOv2)."""
    reconstruction_weight: Weight = 0.0
    """Weight of rebuilding hidden voxels by one linear layer (SMIT)."""
    small_views: Annotated[int, Field(ge=0)] = 4
    """Crops of half the side, whose class tokens agree with those of the whole views. Published are 8."""
    masked_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the whole views with a mask."""
    mask_ratios: tuple[Ratio, Ratio] | None = (0.2, 0.75)
    """Share of hidden patches of a masked view, drawn between the two; none = `--mask-ratio`."""


class DINO(SelfDistillation):
    """DINOv2's two losses in 3D (Oquab et al., TMLR 2024; iBOT, Zhou et al., ICLR 2022; 3DINO, Xu et al., 2025).

    The online encoder sees whole views, some of them masked, and small ones; the target sees whole views without masks.
    Hidden patches are learnt values; on the residual U-Net they stand after the stem: an adaptation.
    """

    Config: ClassVar[type[Config]] = DINOConfig
    paper: ClassVar[str] = "Oquab et al., TMLR 2024, arXiv 2304.07193; Zhou et al., ICLR 2022, arXiv 2111.07832"
    Sampler: ClassVar[type[Sampler]] = SeveralViews
    heads = ("class", "patch")
    class_head: PrototypeHead
    patch_head: PrototypeHead

    def __init__(self, backbone: Backbone, config: DINOConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        self.mask_token = MaskToken(backbone.entry_width)
        self.to_voxels = nn.Linear(backbone.width, patch_values(backbone)) if config.reconstruction_weight else None

    def wants(self) -> ViewsWants:
        """Two whole views, some with masks, and small ones."""
        config = self.config
        return ViewsWants(
            smalls=config.small_views,
            masked_share=config.masked_share,
            mask_ratios=config.mask_ratios,
            clean=bool(config.reconstruction_weight),
        )

    @property
    def fewest_pairs(self) -> int:
        """KoLeo spreads crops apart, so it needs two."""
        return 2 if self.config.koleo_weight else 1

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """All losses of the views of one batch; whole views go through the networks as one stack."""
        config = self.config
        whole = torch.cat([batch["whole_0"], batch["whole_1"]])
        b, n = len(batch["whole_0"]), (self.crop // self.backbone.stride) ** 3
        visible = torch.ones(2 * b, n, dtype=torch.bool, device=whole.device)
        if config.masked_share:
            visible = torch.cat([batch["visible_whole_0"], batch["visible_whole_1"]])
        online_class, online_patches = self.backbone.masked_tokens(whole, visible, self.mask_token.value)
        with torch.no_grad():
            target_class, target_patches = self.target_backbone.tokens(whole)

        answers, watched = self.answers("class", target_class, step)
        views = list(torch.split(online_class, b))
        if config.small_views:
            small = torch.cat([batch[f"small_{m}"] for m in range(config.small_views)])
            views += torch.split(self.backbone.tokens(small)[0], b)
        # Every view of the student against every whole view of the teacher but itself, all pairs with one weight.
        terms = [
            distillation_loss(self.class_head(view), answer, student_temperature=config.student_temperature)
            for at, answer in enumerate(torch.split(answers, b))
            for number, view in enumerate(views)
            if number != at
        ]
        parts = {"class": torch.stack(terms).mean(), "patch": online_patches.sum() * 0}
        hidden = ~visible
        if bool(hidden.any()):
            answers, more = self.answers("patch", target_patches[hidden], step)
            logits = self.patch_head(online_patches[hidden])
            temperature = config.student_temperature
            parts["patch"] = masked_distillation_loss(logits, answers, hidden, student_temperature=temperature)
            watched |= more
        weights = {"class": config.class_weight, "patch": config.patch_weight}
        if config.koleo_weight:
            parts["koleo"] = torch.stack([koleo(view) for view in views[:2]]).mean()
            weights["koleo"] = config.koleo_weight
        if self.to_voxels is not None and bool(hidden.any()):
            parts["reconstruction"] = reconstruction_loss(  # absolute errors of raw voxels, as SMIT's
                self.to_voxels(online_patches),
                torch.cat([batch["whole_0_clean"], batch["whole_1_clean"]]),
                visible,
                patch=self.backbone.stride,
                normalised=False,
                power=1,
            )
            weights["reconstruction"] = config.reconstruction_weight
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}, **watched}
