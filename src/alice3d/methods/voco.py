"""VoCo: where a crop lies among base crops of its scan, told by the similarity of their features."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from alice3d.config import Config
from alice3d.data.sampling.base import Sampler
from alice3d.data.sampling.base_crops import BaseCrops, BaseCropWants
from alice3d.losses.overlap import base_repulsion, overlap_loss, overlap_loss_as_printed, similarities
from alice3d.methods.base import PretrainMethod
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.ema import target_of, update_ema
from alice3d.nn.heads.projector import Norm, Projector, pooled_levels

Side = Annotated[int, Field(ge=1, le=6)]


class VoCoConfig(Config):
    """Settings of VoCo."""

    bases: tuple[Side, Side, Side] = (3, 3, 1)
    """Base crops along R, A, S. Version 1 has 4,4,1, version 2 has 3,3,1."""
    targets: Annotated[int, Field(ge=2)] = 2
    """Crops a scan whose place is told."""
    width: Annotated[int, Field(ge=2)] = 256
    """Width of the projector's layers and of the vectors that are compared. Published are 2,048 and 1,024."""
    norm: Norm = "layer"
    """Norm of the projector; batch as published."""
    teacher: Literal["none", "projector", "all"] = "all"
    """What a moving average is kept of: nothing, as in the paper; the projector, as in version 2; or everything, as in
    the published code of version 1."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the moving average."""
    negatives: Literal["square", "log"] = "square"
    """How bases without overlap count: version 1 and version 2."""
    as_printed: bool = False
    """One mean over all bases, as equation 3 of the paper says and the published code does not."""
    between: bool = False
    """Also compare a scan's targets with the bases of the next scan of the batch (version 2)."""


class VoCo(PretrainMethod):
    """Volume contrast (VoCo, Wu et al., CVPR 2024): predicted overlap, and bases of one scan that differ.

    Overlap is that of volumes. Crops are not mirrored: with mirrored ones left and right could not be learnt.
    """

    Config: ClassVar[type[Config]] = VoCoConfig
    paper: ClassVar[str] = "Wu et al., CVPR 2024, arXiv 2402.17300"
    Sampler: ClassVar[type[Sampler]] = BaseCrops
    defaults: ClassVar[dict[str, Any]] = {"batch": 2}
    target_backbone: Backbone
    target_projector: Projector
    advice: ClassVar[dict[str, str]] = {
        "features": "try a lower --learning-rate, a longer --warmup or --options.teacher all",
    }

    def __init__(self, backbone: Backbone, config: VoCoConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        self.projector = Projector(sum(backbone.channels), hidden=config.width, out=config.width, norm=config.norm)
        self.followed = {"none": (), "projector": ("projector",), "all": ("backbone", "projector")}[config.teacher]
        for name in self.followed:
            setattr(self, f"target_{name}", target_of(getattr(self, name)))

    def wants(self) -> BaseCropWants:
        """Base crops and targets of one region."""
        return BaseCropWants(self.config.bases, self.config.targets)

    @property
    def fewest_pairs(self) -> int:
        """Comparing scans needs two."""
        return 2 if self.config.between else 1

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Prediction of the overlap, differing bases, and agreement between scans where it is asked for."""
        config = self.config
        k, t, b = int(torch.tensor(config.bases).prod()), config.targets, len(batch["base_0"])
        names = [*(f"base_{j}" for j in range(k)), *(f"target_{i}" for i in range(t))]
        crops = torch.stack([batch[name] for name in names], dim=1).flatten(0, 1)  # (b (k + t), c, x, y, z)
        pooled = pooled_levels(self.backbone.pyramid(crops))
        student = self.projector(pooled).unflatten(0, (b, k + t))
        with torch.no_grad():
            if "backbone" in self.followed:
                pooled = pooled_levels(self.target_backbone.pyramid(crops))
            teacher = self._target_projector()(pooled.detach()).unflatten(0, (b, k + t))
        bases, targets = student[:, :k], student[:, k:]
        fixed_bases, fixed_targets = teacher[:, :k], teacher[:, k:]
        overlap = batch["overlap"].float()
        similarity = similarities(targets, fixed_bases)
        if config.teacher == "all":  # version 1 takes both directions
            similarity = (similarity + similarities(fixed_targets, bases)) / 2
        parts = self._told(similarity, overlap)
        parts["repulsion"] = base_repulsion(bases)
        if config.between:
            known = similarities(fixed_targets, fixed_bases.roll(1, dims=0)).detach()
            between = overlap_loss(similarities(targets, bases.roll(1, dims=0)), known, negatives=config.negatives)
            parts["between"] = between[0] + between[1]
        loss = torch.stack(list(parts.values())).sum()
        apart, inside = similarity.detach()[overlap == 0], similarity.detach()[overlap >= 0.5]
        watched = {"similarity_apart": apart.mean() if len(apart) else similarity.detach().mean() * 0}
        if len(inside):
            watched["similarity_inside"] = inside.mean()
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}, **watched}

    def _told(self, similarity: Tensor, overlap: Tensor) -> dict[str, Tensor]:
        if self.config.as_printed:
            return {"overlap": overlap_loss_as_printed(similarity, overlap)}
        positive, negative = overlap_loss(similarity, overlap, negatives=self.config.negatives)
        return {"overlap": positive, "no_overlap": negative}

    def _target_projector(self) -> Projector:
        return self.target_projector if self.followed else self.projector

    def after_step(self, step: int) -> None:
        """The moving average follows, after the optimiser's step."""
        self._follow(self.config.ema_decay)

    def reset_target(self) -> None:
        """Let the moving average start from the weights as they are."""
        self._follow(0.0)

    def _follow(self, decay: float) -> None:
        for name in self.followed:
            update_ema(getattr(self, f"target_{name}"), getattr(self, name), decay)
