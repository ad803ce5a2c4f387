"""SAM, self-supervised anatomical embedding: the same place in two views is near, every other place far."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from alice3d.config import Config
from alice3d.data.sampling.matched_pair import PairWants
from alice3d.losses.contrast import crop_contrast
from alice3d.methods.base import PretrainMethod
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.ema import target_of, update_ema
from alice3d.nn.heads.embedding import FPN3D


class SAMConfig(Config):
    """Settings of the matcher's objective."""

    fine_width: Annotated[int, Field(ge=4, le=512)] = 32
    """Channels of the fine embedding, at half resolution."""
    coarse_width: Annotated[int, Field(ge=4, le=512)] = 64
    """Channels of the coarse embedding, at an eighth of the resolution."""
    temperature: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Divides the cosine similarities before the softmax."""
    ignore_mm: Annotated[float, Field(ge=0)] = 16.0
    """Places nearer than this to the true one, in mm, are no negatives."""
    across: bool = False
    """Take places of the batch's other pairs of crops as negatives too. Those within `ignore_mm` are left out where
    they lie in one of the point's own two scans; in a third scan the same anatomy is not known, and is a negative."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """EMA decay of the weights; the matcher has the EMA weights."""


class SAM(PretrainMethod):
    """Contrast of corresponding points on the fine, the coarse and the joint embedding (Yan et al., TMI 2022).

    Unlike the published code the negatives are drawn from the whole key crop, and the joint similarity, which is what
    matching maximises, is trained itself. Pairs may come from one scan or, matched, from two patients.
    """

    Config: ClassVar[type[Config]] = SAMConfig
    paper: ClassVar[str] = "Yan et al., TMI 2022, arXiv 2012.02383"

    @classmethod
    def unfit(cls, backbone: Backbone, config: SAMConfig) -> str:
        """See `PretrainMethod.unfit`."""
        if backbone.strides == [1, 2, 4, 8]:
            return ""
        return f"the matcher needs a backbone with strides 1, 2, 4, 8; got {backbone.strides}"

    def __init__(self, backbone: Backbone, config: SAMConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        self.network = FPN3D(backbone, fine_width=config.fine_width, coarse_width=config.coarse_width)
        self.averaged = target_of(self.network)

    def wants(self) -> PairWants:
        """No masks."""
        return PairWants(masks=False)

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Embed both crops and contrast their points, in both directions."""
        b = len(batch["q"])
        maps = dict(zip(("fine", "coarse"), self.network(torch.cat([batch["q"], batch["k"]])), strict=True))
        levels = {"fine": ["fine"], "coarse": ["coarse"], "joint": ["fine", "coarse"]}
        parts: dict[str, Tensor] = {}
        for name, members in levels.items():
            of_q, of_k = [maps[m][:b] for m in members], [maps[m][b:] for m in members]
            directions = (("q", "k", of_q, of_k), ("k", "q", of_k, of_q))
            losses = [
                crop_contrast(
                    query_maps,
                    key_maps,
                    batch,
                    query=query,
                    key=key,
                    temperature=self.config.temperature / len(members),
                    ignore_mm=self.config.ignore_mm,
                    across=self.config.across,
                )
                for query, key, query_maps, key_maps in directions
            ]
            parts[name] = torch.stack(losses).mean()
        return {"loss": torch.stack(list(parts.values())).sum(), **{k: v.detach() for k, v in parts.items()}}

    def after_step(self, step: int) -> None:
        """Move the averaged weights; the average starts quickly, so that the first steps do not linger."""
        momentum = min(self.config.ema_decay, (1 + step) / (10 + step))
        update_ema(self.averaged, self.network, momentum)

    def reset_target(self) -> None:
        """Let the average start from the weights as they are."""
        update_ema(self.averaged, self.network, 0.0)

    def twins(self) -> list[tuple[nn.Module, nn.Module]]:
        """The averaged network and the network."""
        return [(self.averaged, self.network)]

    def encoder(self) -> Backbone:
        """The backbone with EMA weights."""
        return self.averaged.backbone
