"""What objectives with a moving average and prototypes share: heads, balanced targets, and what is watched."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.distributed import ReduceOp

from alice3d.config import Config
from alice3d.distributed import all_reduce
from alice3d.losses.distill import Centring, balanced, entropy, warmed
from alice3d.methods.base import PretrainMethod
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.ema import cosine_momentum, target_of, update_ema
from alice3d.nn.heads.prototypes import PrototypeHead

Temperature = Annotated[float, Field(gt=0, le=1)]


class SelfDistillationConfig(Config):
    """Settings that all objectives of this kind have; as Alice's, which suit short runs and small batches."""

    prototypes: Annotated[int, Field(ge=2)] = 512
    """Outputs of each head. Published are 65,536 (DINOv2, 3DINO) and 8,192 (SMIT), for batches of hundreds."""
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
    """What keeps the target from collapsing."""
    spread: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Deviation over the batch that each prototype's target logits are given; 0 leaves them as they are."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Momentum of the target at the first step; it rises to 1 along a cosine."""
    downstream: Literal["online", "target"] = "target"
    """Which encoder is exported: the one that learns, or its moving average, as DINO does."""


class SelfDistillation(PretrainMethod):
    """A target encoder follows the online one, and heads with prototypes compare their answers.

    Attributes:
        heads: names of the heads; each has `NAME_head`, `target_NAME_head` and `NAME_centre`.
    """

    Config: ClassVar[type[Config]] = SelfDistillationConfig
    advice: ClassVar[dict[str, str]] = {
        "answers": "try --options.balance sinkhorn, --options.spread 0.15, a lower --options.teacher_temperature or a "
        "larger --batch",
        "features": "try a lower --learning-rate, a longer --warmup or --options.momentum 0.996",
    }
    heads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, backbone: Backbone, config: SelfDistillationConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        self.target_backbone = target_of(backbone)
        for name in self.heads:
            head = PrototypeHead(
                backbone.width, hidden=config.hidden, bottleneck=config.bottleneck, prototypes=config.prototypes
            )
            setattr(self, f"{name}_head", head)
            setattr(self, f"target_{name}_head", target_of(head))
            setattr(self, f"{name}_centre", Centring(config.prototypes))

    @torch.no_grad()
    def answers(self, name: str, rows_nd: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The target head's probabilities (n, k) of target features, sharpened and balanced; and what is watched."""
        config = self.config
        logits = getattr(self, f"target_{name}_head")(rows_nd)
        first, last = config.teacher_temperature
        temperature = warmed(first, last, share=config.teacher_warmup, step=step, total_steps=self.total_steps)
        centring = None if config.balance == "sinkhorn" else getattr(self, f"{name}_centre")
        probability = balanced(logits, temperature, spread=config.spread, centring=centring)
        mean = all_reduce(probability.mean(dim=0, keepdim=True), ReduceOp.AVG)
        return probability, {
            f"{name}_target_entropy": entropy(probability),
            f"{name}_marginal_entropy": entropy(mean),
        }

    def after_step(self, step: int) -> None:
        """The target follows; its momentum rises along a cosine."""
        self._follow(cosine_momentum(step, self.total_steps, start=self.config.momentum))

    def reset_target(self) -> None:
        """Make the target branch equal to the online one."""
        self._follow(0.0)

    def _follow(self, momentum: float) -> None:
        update_ema(self.target_backbone, self.backbone, momentum)
        for name in self.heads:
            update_ema(getattr(self, f"target_{name}_head"), getattr(self, f"{name}_head"), momentum)

    def encoder(self) -> Backbone:
        """The moving average, or the online encoder where `downstream` asks for it."""
        return self.target_backbone if self.config.downstream == "target" else self.backbone
