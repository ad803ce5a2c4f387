"""Consistent view alignment: masked reconstruction, and the same place in two views of a scan agrees."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from alice3d.config import Config
from alice3d.data.sampling.matched_pair import PairWants
from alice3d.losses.contrast import sample_at
from alice3d.losses.pooled_contrast import nt_xent
from alice3d.losses.reconstruct import reconstruction_loss
from alice3d.losses.regression import cosine_regression, gram_regression
from alice3d.methods.base import PretrainMethod
from alice3d.methods.masked_reconstruction import patch_values
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.decoder import TokenDecoder, lifted
from alice3d.nn.ema import target_of, update_ema
from alice3d.nn.heads.projector import Norm, Projector

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]


class CVAConfig(Config):
    """Settings of consistent view alignment."""

    reconstruction_weight: Weight = 5.0
    """Weight of rebuilding hidden patches."""
    fine_weight: Weight = 1.0
    """Weight of agreement at places that both views show."""
    image_weight: Weight = 0.1
    """Weight of the contrast of whole views."""
    fine: Literal["cosine", "gram", "contrast"] = "cosine"
    """How places agree: by regression of the vectors; of the products of their channels, which is what the published
    recipes train although no place is then compared with a place; or by contrast with all other places."""
    overlap: tuple[Share, Share] = (0.4, 0.8)
    """Share of the first crop's volume that the second one holds, drawn between the two; of one scan's crops."""
    image_temperature: Annotated[float, Field(gt=0)] = 0.5
    """Temperature of the contrast of whole views."""
    fine_temperature: Annotated[float, Field(gt=0)] = 0.1
    """Temperature of the contrast of places."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the target. Published is 0.995, for long runs."""
    width: Annotated[int, Field(ge=2)] = 256
    """Width of the projector's and predictor's layers. Published are 2,048 and 512."""
    norm: Norm = "layer"
    """Norm of projector and predictor; batch as published."""
    decoder_width: Annotated[int, Field(ge=6)] = 128
    """Width of the decoder's tokens."""
    decoder_depth: Annotated[int, Field(ge=1)] = 2
    """Transformer blocks of the decoder."""
    decoder_heads: Annotated[int, Field(ge=1)] = 4
    """Attention heads of the decoder."""


class CVA(PretrainMethod):
    """Masked reconstruction with aligned views (Vaish et al., 2025, arXiv 2509.13846).

    The online encoder sees masked crops, the target whole ones. Places are points of the overlap, carried through both
    crops' affines, where the published code cuts cells whose axes it confuses.
    """

    Config: ClassVar[type[Config]] = CVAConfig
    paper: ClassVar[str] = "Vaish et al., 2025, arXiv 2509.13846"
    defaults: ClassVar[dict[str, Any]] = {}
    advice: ClassVar[dict[str, str]] = {
        "features": "try a lower --learning-rate, a longer --warmup or --options.fine contrast",
    }

    def __init__(self, backbone: Backbone, config: CVAConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        width = backbone.width
        self.decoder = TokenDecoder(
            encoder_width=width,
            patch_values=patch_values(backbone),
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
        )
        self.lift = nn.Linear(config.decoder_width, width)
        sizes: dict[str, Any] = {"hidden": config.width, "out": config.width, "norm": config.norm}
        self.projector = Projector(width, **sizes)
        self.predictor = Projector(config.width, layers=2, **sizes)
        self.target_backbone = target_of(backbone)
        self.target_projector = target_of(self.projector)

    def wants(self) -> PairWants:
        """Masks, and crops that overlap."""
        return PairWants(targets=False, overlap=self.config.overlap)

    @property
    def fewest_pairs(self) -> int:
        """Whole views are contrasted with those of other scans."""
        return 2 if self.config.image_weight else 1

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """All three losses of Q and K, which go through the networks as one stack."""
        config = self.config
        volumes = torch.cat([batch["q"], batch["k"]])
        visible = torch.cat([batch["visible_q"], batch["visible_k"]])
        grid = self.backbone.token_grid(volumes.shape[2:])
        class_token, patches = self.backbone.tokens(volumes, visible)
        decoded, rebuilt = self.decoder(class_token, patches, visible, grid)
        with torch.no_grad():
            target_class, target_patches = self.target_backbone.tokens(volumes)
        online = lifted(self.lift(decoded), patches, visible, grid)
        target = target_patches.transpose(1, 2).reshape(len(volumes), -1, *grid)
        parts = {
            "reconstruction": reconstruction_loss(
                rebuilt, torch.cat([batch["q_clean"], batch["k_clean"]]), visible, patch=self.backbone.stride
            ),
            "fine": self._fine(batch, online, target),
        }
        weights = {"reconstruction": config.reconstruction_weight, "fine": config.fine_weight}
        if config.image_weight:
            # Each view of the student against the teacher's of the other; a scan's further views are no negatives.
            student = self.predictor(self.projector(class_token))
            with torch.no_grad():
                teacher = self.target_projector(target_class).roll(len(batch["q"]), dims=0)
            scan = torch.cat([batch["case_q"], batch["case_k"]])
            scans = torch.cat([scan, scan.roll(len(batch["q"]))])
            same = scans[:, None] == scans[None]
            parts["image"] = nt_xent(student, teacher, config.image_temperature, excluded=same)
            weights["image"] = config.image_weight
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}

    def _fine(self, batch: dict[str, Tensor], online: Tensor, target: Tensor) -> Tensor:
        """Agreement of the student at places of one crop with the teacher at those of the other, both ways."""
        shape, b = tuple(batch["q"].shape[2:]), len(batch["q"])
        valid = batch["valid"].bool()
        if not bool(valid.any()):
            return online.sum() * 0
        halves = {"q": slice(0, b), "k": slice(b, None)}
        losses = []
        for query, key in (("q", "k"), ("k", "q")):
            here = sample_at(online[halves[query]], batch[f"points_{query}"], shape)
            there = sample_at(target[halves[key]], batch[f"points_{key}"], shape)
            rows = self.predictor(self.projector(here))
            with torch.no_grad():
                fixed = self.target_projector(there)
            if self.config.fine == "gram":
                kept = valid[..., None]
                losses.append(gram_regression(rows * kept, fixed * kept))
            elif self.config.fine == "contrast":
                losses.append(nt_xent(rows[valid], fixed[valid], self.config.fine_temperature))
            else:
                losses.append(cosine_regression(rows[valid], fixed[valid]))
        return torch.stack(losses).mean()

    def after_step(self, step: int) -> None:
        """The target follows."""
        self._follow(self.config.ema_decay)

    def reset_target(self) -> None:
        """Make the target branch equal to the online one."""
        self._follow(0.0)

    def _follow(self, decay: float) -> None:
        update_ema(self.target_backbone, self.backbone, decay)
        update_ema(self.target_projector, self.projector, decay)
