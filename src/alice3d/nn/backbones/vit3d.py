"""Vision transformer on volumes: visible patches only, fixed positions, a class token."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from alice3d.nn.backbones.base import Backbone
from alice3d.nn.layers import TransformerBlock, sincos_position

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}
"""Name to (width, depth, heads), as in DeiT (Touvron et al., ICML 2021)."""


class ViT3D(Backbone):
    """Patches to tokens to transformer blocks; hidden patches never enter, which is where the speed comes from.

    Args:
        in_channels: channels of the volume.
        patch: voxels a side of a patch.
        size: `tiny`, `small` or `base`.
        width, depth, heads: each overrides the named size where given.
        registers: further learned tokens that belong to no place. Without them large, long-trained ViTs keep global
            notes in tokens of dull patches, which harms dense tasks (Darcet et al., ICLR 2024, who take 4).
        checkpoint: see `Backbone`.
    """

    name = "vit"

    def __init__(
        self,
        *,
        in_channels: int = 1,
        patch: int = 8,
        size: str = "tiny",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        registers: int = 0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"size {size!r} is unknown; known are {', '.join(SIZES)}")
        if patch < 1:
            raise ValueError(f"patch {patch} must be at least 1")
        if registers < 0:
            raise ValueError(f"registers {registers} must not be negative")
        default_width, default_depth, default_heads = SIZES[size]
        self.width = self.entry_width = width or default_width
        count = depth or default_depth
        self.in_channels = in_channels
        self.stride = patch
        self.channels = [self.width] * 4
        self.strides = [patch] * 4
        self.checkpoint = checkpoint
        self.embed = nn.Conv3d(in_channels, self.width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.registers = nn.Parameter(torch.zeros(1, registers, self.width)) if registers else None
        self.blocks = nn.ModuleList([TransformerBlock(self.width, heads or default_heads) for _ in range(count)])
        self.norm = nn.LayerNorm(self.width)
        # Four evenly spaced depths feed a decoder with skips (UNETR, Hatamizadeh et al., WACV 2022).
        self.taps = [max(1, round(count * share / 4)) for share in (1, 2, 3, 4)]
        nn.init.trunc_normal_(self.class_token, std=0.02)
        if self.registers is not None:
            nn.init.trunc_normal_(self.registers, std=0.02)

    def _enter(self, volume: Tensor, visible: Tensor | None, mask_token: Tensor | None = None) -> Tensor:
        """Tokens (b, prefix + patches, width): the class token and the registers come first.

        The embedding is a convolution whose stride is its kernel, computed as one matrix product over the patches
        that are seen: hidden ones are dropped before it, or replaced after it where there is a mask token.
        """
        grid, side = self.token_grid(volume.shape[2:]), self.stride
        b, c = volume.shape[:2]
        cut = volume.reshape(b, c, grid[0], side, grid[1], side, grid[2], side)
        patches = cut.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, -1, c * side**3)
        position = sincos_position(grid, self.width, device=volume.device)
        if visible is not None and mask_token is None:
            rows = visible.flatten().nonzero()[:, 0]
            patches = patches.flatten(0, 1)[rows].view(b, -1, patches.shape[2])
            position = position[rows % len(position)].view(b, -1, self.width)
        x_bnd = F.linear(patches, self.embed.weight.flatten(1), self.embed.bias)
        if visible is not None and mask_token is not None:
            x_bnd = torch.where(visible[..., None], x_bnd, mask_token.to(x_bnd.dtype))
        first = [token.expand(b, -1, -1) for token in (self.class_token, self.registers) if token is not None]
        return torch.cat([*(token.to(x_bnd.dtype) for token in first), x_bnd + position.to(x_bnd.dtype)], dim=1)

    def _run(self, volume: Tensor, visible: Tensor | None, mask_token: Tensor | None = None) -> list[Tensor]:
        """Patch tokens after the tapped blocks, then the class token and the patch tokens at the end, normalised."""
        x_bnd = self._enter(volume, visible, mask_token)
        first = 1 + (0 if self.registers is None else self.registers.shape[1])
        taps = []
        for depth, block in enumerate(self.blocks, start=1):
            x_bnd = self.through(block, x_bnd)
            taps += [x_bnd[:, first:]] * self.taps[:3].count(depth)  # a net of fewer than four blocks gives some twice
        x_bnd = self.norm(x_bnd)
        return [*taps, x_bnd[:, 0], x_bnd[:, first:]]

    def tokens(
        self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b v d"]]:
        """See `Backbone.tokens`."""
        *_, class_token, patches = self._run(volume, visible)
        return class_token, patches

    def masked_tokens(
        self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"], mask_token: Float[Tensor, " e"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n d"]]:
        """See `Backbone.masked_tokens`; the learnt value stands in place of the embedding, before positions."""
        *_, class_token, patches = self._run(volume, visible, mask_token)
        return class_token, patches

    def pyramid(self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"] | None = None) -> list[Tensor]:
        """Token maps of four depths, shallow first, all at the patch's stride."""
        if visible is not None:
            raise ValueError("a ViT has no maps with places left out")
        return self.whole(volume)[2]

    def whole(self, volume: Float[Tensor, "b c x y z"]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """See `Backbone.whole`: one pass gives all."""
        *taps, class_token, patches = self._run(volume, None)
        grid = self.token_grid(volume.shape[2:])
        maps = [tap.transpose(1, 2).reshape(len(tap), self.width, *grid) for tap in (*taps, patches)]
        return class_token, patches, maps
