"""What objectives that rebuild hidden patches share: both crops, the loss, and masks that follow its errors."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from alice3d.config import Config
from alice3d.data.sampling.masks import draw_harder_visible
from alice3d.data.sampling.matched_pair import PairWants
from alice3d.losses.distill import warmed
from alice3d.losses.reconstruct import patch_errors, reconstruction_loss
from alice3d.methods.base import PretrainMethod
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.ema import target_of, update_ema

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class MaskedReconstructionConfig(Config):
    """Settings that all objectives of this kind have."""

    normalised: bool = True
    """Compare with voxels normalised within each patch; off = raw voxels."""
    hidden_only: bool = True
    """Count hidden patches alone; off = all patches."""
    power: Literal[1, 2] = 2
    """2 = squared errors, 1 = absolute ones."""
    hardest: tuple[Share, Share] = (0.0, 0.0)
    """AnatoMask: share of the hidden patches, at the first and at the last step, that are those which a moving average
    of the network rebuilds worst; the rest is random. 0,0 = random masks, without a moving average."""
    teacher_decay: tuple[Decay, Decay] = (0.99, 0.999)
    """AnatoMask: decay of the moving average at the first step and after a quarter of the run. Published are 0.999 and
    0.9999, for runs of hundreds of thousands of steps."""
    difficulty: Literal["normalised", "raw"] = "normalised"
    """AnatoMask: how errors are ranked; `raw` compares with voxels that are not normalised even where the network
    rebuilds normalised ones, as the published code does."""


class MaskedReconstruction(PretrainMethod):
    """Rebuild hidden patches from visible ones, on both crops of a sample.

    A subclass builds its parts (modules, so that they can have a moving average), calls `start_teacher` at the end of
    its constructor, and defines `rebuild`.
    """

    Config: ClassVar[type[Config]] = MaskedReconstructionConfig
    advice: ClassVar[dict[str, str]] = {
        "features": "try a lower --learning-rate, a longer --warmup or a lower --mask-ratio",
    }
    parts: tuple[str, ...] = ()

    def start_teacher(self, *parts: str) -> None:
        """Give each part, and the backbone, a moving average where masks follow it: `target_PART` beside `PART`."""
        if not any(self.config.hardest):
            return
        self.parts = ("backbone", *parts)
        for part in self.parts:
            setattr(self, f"target_{part}", target_of(getattr(self, part)))

    def part(self, name: str, *, target: bool) -> Any:
        """A module, or its moving average."""
        return getattr(self, f"target_{name}" if target else name)

    def wants(self) -> PairWants:
        """Masks and clean crops."""
        return PairWants(targets=False)

    @property
    def needs_hidden(self) -> bool:
        """Not where all patches are counted."""
        return bool(self.config.hidden_only or any(self.config.hardest))

    def rebuild(self, volumes: Tensor, visible: Tensor, *, target: bool = False) -> Tensor:
        """The voxels of every patch (b, n, patch values), from crops and their masks (b, n).

        Args:
            volumes: (b, c, x, y, z).
            visible: (b, n) True = visible; equally many in each row.
            target: by the moving averages.
        """
        raise TypeError(f"{type(self).__name__} does not define rebuild()")

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Mean error over the hidden patches of Q and K."""
        config = self.config
        volumes = torch.cat([batch["q"], batch["k"]])
        visible = torch.cat([batch["visible_q"], batch["visible_k"]])
        clean = torch.cat([batch["q_clean"], batch["k_clean"]])
        if self.parts:
            visible = self._harder(volumes, clean, visible, batch["number"].repeat(2), step)
        loss = reconstruction_loss(
            self.rebuild(volumes, visible),
            clean,
            visible,
            patch=self.backbone.stride,
            normalised=config.normalised,
            hidden_only=config.hidden_only,
            power=config.power,
        )
        return {"loss": loss, "reconstruction": loss.detach()}

    @torch.no_grad()
    def _harder(self, volumes: Tensor, clean: Tensor, visible: Tensor, number: Tensor, step: int) -> Tensor:
        """Masks that hide as many patches as the drawn ones, some of them those that are rebuilt worst.

        As published, patches that the drawn mask shows have no error, so the worst are among those that it hides.
        """
        config = self.config
        normalised = config.normalised and config.difficulty == "normalised"
        rebuilt = self.rebuild(volumes, visible, target=True)
        error = patch_errors(rebuilt, clean, patch=self.backbone.stride, normalised=normalised, power=config.power)
        error_bn = error.masked_fill(visible, 0).cpu().numpy()
        hidden = int((~visible[0]).sum())
        first, last = config.hardest
        hardest = first + (last - first) * min((step + 1) / self.total_steps, 1)
        rows = [
            draw_harder_visible(error_bn[i : i + 1], hidden, hardest, np.random.default_rng([int(n), i % 2]))
            for i, n in enumerate(number)
        ]
        return torch.from_numpy(np.concatenate(rows)).to(visible.device)

    def after_step(self, step: int) -> None:
        """Move the averages."""
        first, last = self.config.teacher_decay
        self._follow(warmed(first, last, share=0.25, step=step, total_steps=self.total_steps))

    def reset_target(self) -> None:
        """Let the averages start from the weights as they are."""
        self._follow(0.0)

    def _follow(self, decay: float) -> None:
        for part in self.parts:
            update_ema(self.part(part, target=True), self.part(part, target=False), decay)


class MaskToken(nn.Module):
    """A learnt vector that stands for what is hidden."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(width))
        nn.init.trunc_normal_(self.value, std=0.02)


def patch_values(backbone: Backbone) -> int:
    """Voxels times channels of a patch."""
    return backbone.stride**3 * backbone.in_channels
