"""Residual U-Net encoder: the backbone of the matcher, of Alice and of the segmenter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from alice3d.nn.backbones.base import Backbone
from alice3d.nn.layers import ChannelNorm, Conv3, ResidualBlock, take_visible

SIZES = {
    "small": ((16, 32, 64, 128), (1, 2, 2)),
    "medium": ((32, 64, 128, 256), (1, 2, 2)),
    "large": ((32, 64, 128, 256), (2, 4, 4)),
}
"""Name to (widths, blocks): small learns in minutes of a CPU, the others are for a GPU."""


class ResUNet(Backbone):
    """Four scales of residual blocks; the deep grid's features are the tokens.

    Downsampling is a 2³ convolution of stride 2, so a token's cells are aligned with voxels and no scale mixes a
    hidden patch with a visible one. Masking follows sparse convolution (SparK, Tian et al., ICLR 2023): hidden voxels
    are zero at the input and set to zero again after every block.

    Args:
        in_channels: channels of the volume.
        size: `small`, `medium` or `large`.
        widths: channels at strides 1, 2, 4, 8. Full resolution dominates the cost, so it stays thin.
        blocks: residual blocks at strides 2, 4, 8; stride 1 has the stem convolution alone. Both override the named
            size where given.
        checkpoint: see `Backbone`.
    """

    name = "resunet"
    position_free = True
    takes_masked_pyramid = True

    def __init__(
        self,
        *,
        in_channels: int = 1,
        size: str = "small",
        widths: Sequence[int] | None = None,
        blocks: Sequence[int] | None = None,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"size {size!r} is unknown; known are {', '.join(SIZES)}")
        widths, blocks = widths or SIZES[size][0], blocks or SIZES[size][1]
        if len(widths) != len(blocks) + 1:
            raise ValueError(f"widths {list(widths)} must be one longer than blocks {list(blocks)}")
        self.in_channels, self.checkpoint = in_channels, checkpoint
        self.channels = list(widths)
        self.strides = [2**level for level in range(len(widths))]
        self.width, self.entry_width = widths[-1], widths[0]
        self.stride = self.strides[-1]
        self.stem = Conv3(in_channels, widths[0])
        self.down = nn.ModuleList()
        self.stages = nn.ModuleList()
        for shallow, deep, count in zip(widths[:-1], widths[1:], blocks, strict=True):
            self.down.append(nn.Sequential(nn.Conv3d(shallow, deep, 2, stride=2), ChannelNorm(deep)))
            self.stages.append(nn.ModuleList([ResidualBlock(deep, deep) for _ in range(count)]))
        self.class_token = nn.Sequential(nn.LayerNorm(self.width), nn.Linear(self.width, self.width))

    def _maps(self, volume: Tensor, visible: Tensor | None) -> list[Tensor]:
        grid = self.token_grid(volume.shape[2:])
        mask = None if visible is None else visible.view(len(visible), 1, *grid)

        def hide(x_bcxyz: Tensor) -> Tensor:
            """Set hidden voxels to zero at whatever scale x is."""
            if mask is None:
                return x_bcxyz
            return x_bcxyz * F.interpolate(mask.to(x_bcxyz.dtype), size=x_bcxyz.shape[2:], mode="nearest")

        maps = [hide(F.gelu(self.stem(hide(volume))))]
        for down, stage in zip(self.down, self.stages, strict=True):
            x = hide(down(maps[-1]))
            for block in stage:  # type: ignore[attr-defined]
                x = hide(self.through(block, x))
            maps.append(x)
        return maps

    def tokens(
        self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b v d"]]:
        """See `Backbone.tokens`; the class token is a linear map of the visible tokens' mean."""
        deep_bnd = self._maps(volume, visible)[-1].flatten(2).transpose(1, 2)
        if visible is not None:
            deep_bnd = take_visible(deep_bnd, visible)
        return self.class_token(deep_bnd.mean(dim=1)), deep_bnd

    def masked_tokens(
        self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"], mask_token: Float[Tensor, " e"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n d"]]:
        """See `Backbone.masked_tokens`; the learnt value stands after the stem, which sees hidden voxels as zero.

        Adapted: SimMIM's papers have transformers only.
        """
        seen = visible.view(len(visible), 1, *self.token_grid(volume.shape[2:]))
        for axis in (2, 3, 4):
            seen = seen.repeat_interleave(self.stride, axis)
        x = F.gelu(self.stem(torch.where(seen, volume, 0)))
        x = torch.where(seen, x, mask_token.to(x.dtype).view(1, -1, 1, 1, 1))
        for down, stage in zip(self.down, self.stages, strict=True):
            x = down(x)
            for block in stage:  # type: ignore[attr-defined]
                x = self.through(block, x)
        deep_bnd = x.flatten(2).transpose(1, 2)
        return self.class_token(deep_bnd.mean(dim=1)), deep_bnd

    def pyramid(self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"] | None = None) -> list[Tensor]:
        """See `Backbone.pyramid`; the norms look at single voxels, so no statistic counts hidden ones."""
        return self._maps(volume, visible)

    def whole(self, volume: Float[Tensor, "b c x y z"]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """See `Backbone.whole`: the deep map is both."""
        maps = self._maps(volume, None)
        deep_bnd = maps[-1].flatten(2).transpose(1, 2)
        return self.class_token(deep_bnd.mean(dim=1)), deep_bnd, maps
