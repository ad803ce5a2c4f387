"""vox2vec: the same voxel in two views is near, through the features of all scales at once."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from alice3d.config import Config
from alice3d.data.sampling.matched_pair import PairWants
from alice3d.losses.contrast import sample_at
from alice3d.losses.pooled_contrast import nt_xent
from alice3d.methods.base import PretrainMethod
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.heads.projector import Norm, Projector


class Vox2VecConfig(Config):
    """Settings of vox2vec."""

    temperature: Annotated[float, Field(gt=0)] = 0.1
    """Divides the cosine similarities before the softmax."""
    width: Annotated[int, Field(ge=2)] = 128
    """Width of the vectors that are contrasted, and of the hidden layers."""
    norm: Norm = "layer"
    """Norm of the projector; batch as published."""
    level_width: Annotated[int, Field(ge=0)] = 0
    """Each scale is brought to this width by one linear layer first, so that all count alike (Kats); 0 = not."""
    restore_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of restoring the crop without intensity changes from the finest map (Kats)."""
    ignore_mm: Annotated[float, Field(ge=0)] = 0.0
    """Points of the same scan nearer than this, in mm, are no negatives; 0 = all points are, as published."""


class Vox2Vec(PretrainMethod):
    """NT-Xent over points of both crops, on the joined scales (vox2vec, Goncharov et al., MICCAI 2023, section 2).

    Features are read trilinearly instead of at the nearest place, since crops are turned here.
    """

    Config: ClassVar[type[Config]] = Vox2VecConfig
    paper: ClassVar[str] = "Goncharov et al., MICCAI 2023, arXiv 2307.14725"
    advice: ClassVar[dict[str, str]] = {
        "features": "try a lower --learning-rate, a longer --warmup or a lower --options.temperature",
    }

    @classmethod
    def unfit(cls, backbone: Backbone, config: Vox2VecConfig) -> str:
        """See `PretrainMethod.unfit`."""
        if not config.restore_weight or backbone.strides[0] == 1:
            return ""
        return "options.restore_weight: needs features of every voxel; the residual U-Net has them"

    def __init__(self, backbone: Backbone, config: Vox2VecConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        widths = backbone.channels
        self.levels: nn.ModuleList | None = None
        if config.level_width:  # in the published code these lie in a plain list, so they never learn
            self.levels = nn.ModuleList([nn.Linear(c, config.level_width) for c in widths])
            widths = [config.level_width] * len(widths)
        joined = sum(widths)
        self.projector = Projector(joined, hidden=joined, out=config.width, norm=config.norm)
        self.restore = nn.Conv3d(backbone.channels[0], backbone.in_channels, 1) if config.restore_weight else None

    def wants(self) -> PairWants:
        """Clean crops where they are restored; no masks."""
        return PairWants(masks=False, clean=bool(self.config.restore_weight))

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Contrast of the corresponding points of Q and K, and restoration."""
        maps = self.backbone.pyramid(torch.cat([batch["q"], batch["k"]]))
        shape = tuple(batch["q"].shape[2:])
        keep = batch["valid"].bool()
        found = []
        for name, half in (("q", slice(0, len(keep))), ("k", slice(len(keep), None))):
            read = [sample_at(level[half], batch[f"points_{name}"], shape)[keep] for level in maps]
            if self.levels is not None:
                read = [level(rows) for level, rows in zip(self.levels, read, strict=True)]
            found.append(self.projector(torch.cat(read, dim=1)))
        contrast = found[0].sum() * 0  # no point corresponds, as with random partners
        if len(found[0]) > 1:
            contrast = nt_xent(found[0], found[1], self.config.temperature, excluded=self._near(batch, keep))
        parts = {"contrast": contrast}
        loss = contrast
        if self.restore is not None:
            clean = torch.cat([batch["q_clean"], batch["k_clean"]])
            parts["restoration"] = F.mse_loss(self.restore(maps[0]).float(), clean)
            loss = loss + self.config.restore_weight * parts["restoration"]
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}

    def _near(self, batch: dict[str, Tensor], keep: Tensor) -> Tensor | None:
        """(2m, 2m) True where two points lie in one scan, nearer than `ignore_mm`."""
        if not self.config.ignore_mm:
            return None
        places, scans = [], []
        for name in ("q", "k"):
            affine = batch[f"affine_{name}"].float()
            points = batch[f"points_{name}"].float() @ affine[:, :3, :3].transpose(1, 2) + affine[:, None, :3, 3]
            places.append(points[keep])
            scans.append(batch[f"case_{name}"][:, None].expand(keep.shape)[keep])
        place, scan = torch.cat(places), torch.cat(scans)
        near: Tensor = (torch.cdist(place, place) < self.config.ignore_mm) & (scan[:, None] == scan[None])
        return near
