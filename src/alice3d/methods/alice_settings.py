"""Settings of Alice; importing them costs nothing."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from alice3d.config import Config

Weight = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0)]


class AliceConfig(Config):
    """Settings of Alice; every part has a switch (a weight of 0 switches a loss off)."""

    class_weight: Weight = 1.0
    """λ_cls: class-token alignment between the two volumes."""
    patch_weight: Weight = 1.0
    """λ_patch: patch-token alignment within each volume, through CASA."""
    reconstruction_weight: Weight = 1.0
    """λ_rec: masked reconstruction."""
    dense_weight: Weight = 1.0
    """λ_dense: contrast of corresponding points between the two patients; 0 is the paper's method."""
    casa: bool = True
    """Conditional anatomical semantic alignment; off compares the tokens as they are."""
    casa_heads: Annotated[int, Field(ge=1)] = 8
    """Attention heads of CASA."""
    decoder_width: Annotated[int, Field(ge=6)] = 128
    """Width of the online decoder."""
    decoder_depth: Annotated[int, Field(ge=1)] = 2
    """Transformer blocks of the online decoder."""
    decoder_heads: Annotated[int, Field(ge=1)] = 4
    """Attention heads of the online decoder."""
    normalised: bool = True
    """Reconstruct voxels normalised within each patch; off = raw voxels."""
    hidden_only: bool = True
    """Reconstruction counts hidden patches alone; off = all, as the published code does."""
    prototypes: Annotated[int, Field(ge=2)] = 512
    """Outputs of each head."""
    hidden: Annotated[int, Field(ge=2)] = 512
    """Hidden width of the heads."""
    bottleneck: Annotated[int, Field(ge=2)] = 128
    """Width in which the heads' vectors are brought to unit length."""
    student_temperature: Temperature = 0.1
    """Temperature of the online heads."""
    teacher_temperature: tuple[Temperature, Temperature] = (0.04, 0.07)
    """Temperature of the target heads at the first step and after `teacher_warmup` of the run."""
    teacher_warmup: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the run in which the teacher's temperature rises."""
    balance: Literal["sinkhorn", "centre"] = "sinkhorn"
    """What keeps the target from collapsing. Sinkhorn-Knopp, since plain centring collapsed at small batches."""
    spread: Annotated[float, Field(ge=0)] = 0.15
    """Deviation over the batch that each prototype's target logits are given; 0 leaves them as they are, as the paper
    does. Without it short runs stayed at uniform targets, ln(prototypes) in both losses."""
    queue: Annotated[int, Field(ge=0)] = 8
    """Past pairs whose target tokens are kept. Where a forward pass of all processes holds fewer than 4 pairs, its
    targets are standardised and balanced over these as well, and class and patch losses wait until 4 pairs are
    together; with 4 pairs or more it is not used. 0 = no queue, and fewer than 4 pairs are refused."""
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Momentum of the target at the first step; it rises to 1 along a cosine. The paper's 0.996 is for long runs."""
    momentum_end: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Momentum at the last step."""
    dense_temperature: Temperature = 0.1
    """Temperature of the dense contrast."""
    dense_from: Literal["encoder", "decoder"] = "encoder"
    """What the online side of the dense contrast reads: the encoder, which sees both crops whole once more, or the
    decoder of the masked view, which costs next to nothing more; the latter for a ViT alone."""
    ignore_mm: Annotated[float, Field(ge=0)] = 16.0
    """Places nearer than this to the true one, in mm, are no negatives of the dense contrast."""
    koleo_weight: Weight = 0.0
    """Weight of KoLeo on the online class tokens, which spreads those of a batch apart; past the paper. Each process
    needs two pairs at a time."""
    predictor: bool = False
    """A further MLP on the online side alone, between CASA and the heads, as in BYOL; past the paper."""
    local_views: Annotated[int, Field(ge=0)] = 0
    """Crops of half the side, cut from Q and K, whose class tokens are aligned as well (multi-crop); past the paper."""
    downstream: Literal["online", "target"] = "online"
    """Which encoder is exported: E_s, as in the paper, or its moving average E_t."""

    @model_validator(mode="after")
    def _fills(self) -> Self:
        if 0 < self.queue < 4:
            raise ValueError(f"queue: {self.queue} pairs are too few to balance targets over; give 0, or 4 or more")
        return self

    @property
    def balances(self) -> bool:
        """Whether a target depends on the other crops of its batch, and a loss on such targets."""
        return bool((self.balance == "sinkhorn" or self.spread) and (self.class_weight or self.patch_weight))

    @model_validator(mode="after")
    def _learns(self) -> Self:
        weights = [name for name in type(self).model_fields if name.endswith("_weight")]
        if not any(getattr(self, name) for name in weights):
            raise ValueError(f"{', '.join(weights)} are all 0: nothing is left to learn; give one of them a weight")
        return self
