"""Vision transformer on volumes: visible patches only, fixed positions, a class token."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from alice3d.nn.base import Backbone
from alice3d.nn.layers import TransformerBlock, sincos_position, take_visible

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}
"""Name to (width, depth, heads), as in DeiT (Touvron et al., ICML 2021)."""


class ViT3D(Backbone):
    """Patches to tokens to transformer blocks; hidden patches never enter, which is where the speed comes from.

    Args:
        in_channels: channels of the volume.
        patch: voxels a side of a patch.
        size: `tiny`, `small` or `base`.
        width, depth, heads: each overrides the named size where given.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        patch: int = 8,
        size: str = "tiny",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"size {size!r} is unknown; known are {', '.join(SIZES)}")
        default_width, default_depth, default_heads = SIZES[size]
        self.width = width or default_width
        count = depth or default_depth
        self.in_channels = in_channels
        self.stride = patch
        self.channels = [self.width] * 4
        self.strides = [patch] * 4
        self.embed = nn.Conv3d(in_channels, self.width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.blocks = nn.ModuleList([TransformerBlock(self.width, heads or default_heads) for _ in range(count)])
        self.norm = nn.LayerNorm(self.width)
        # Four evenly spaced depths feed a decoder with skips (UNETR, Hatamizadeh et al., WACV 2022).
        self.taps = [max(1, round(count * share / 4)) for share in (1, 2, 3, 4)]
        nn.init.trunc_normal_(self.class_token, std=0.02)

    def _enter(self, volume: Tensor, visible: Tensor | None) -> Tensor:
        grid = self.token_grid(volume.shape[2:])
        x_bnd = self.embed(volume).flatten(2).transpose(1, 2)
        x_bnd = x_bnd + sincos_position(grid, self.width, device=x_bnd.device).to(x_bnd.dtype)
        if visible is not None:
            x_bnd = take_visible(x_bnd, visible)
        return torch.cat([self.class_token.expand(len(x_bnd), -1, -1).to(x_bnd.dtype), x_bnd], dim=1)

    def tokens(
        self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b v d"]]:
        """See `Backbone.tokens`."""
        x_bnd = self._enter(volume, visible)
        for block in self.blocks:
            x_bnd = block(x_bnd)
        x_bnd = self.norm(x_bnd)
        return x_bnd[:, 0], x_bnd[:, 1:]

    def pyramid(self, volume: Float[Tensor, "b c x y z"]) -> list[Tensor]:
        """Token maps of four depths, shallow first, all at the patch's stride."""
        grid = self.token_grid(volume.shape[2:])
        x_bnd = self._enter(volume, None)
        maps = []
        for depth, block in enumerate(self.blocks, start=1):
            x_bnd = block(x_bnd)
            if depth in self.taps:
                out = self.norm(x_bnd) if depth == len(self.blocks) else x_bnd
                level = out[:, 1:].transpose(1, 2).reshape(len(out), self.width, *grid)
                maps += [level] * self.taps.count(depth)  # a net of fewer than four blocks gives some twice
        return maps
