"""The online decoder D_s: visible tokens and mask tokens in, voxels of every patch out."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from alice3d.nn.layers import TransformerBlock, sincos_position


class TokenDecoder(nn.Module):
    """A few transformer blocks over all positions (MAE, He et al., CVPR 2022).

    Args:
        encoder_width: width of the encoder's tokens.
        patch_values: voxels times channels of a patch.
        width, depth, heads: of the decoder.
    """

    def __init__(
        self, *, encoder_width: int, patch_values: int, width: int = 128, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Linear(encoder_width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList([TransformerBlock(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.to_voxels = nn.Linear(width, patch_values)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(
        self,
        class_bd: Float[Tensor, "b d"],
        patches_bvd: Float[Tensor, "b v d"],
        visible_bn: Bool[Tensor, "b n"],
        grid: tuple[int, int, int],
    ) -> tuple[Float[Tensor, "b n e"], Float[Tensor, "b n p"]]:
        """Reconstruct the masked patches.

        Args:
            class_bd: class tokens.
            patches_bvd: tokens of the visible patches, in their order.
            visible_bn: True = the encoder saw this patch.
            grid: tokens along x, y, z; n is their product.

        Returns:
            features H at all positions (b, n, width) and reconstructed voxels (b, n, patch_values).
        """
        b, n = visible_bn.shape
        seen = self.embed(patches_bvd)
        x_bne = self.mask_token.to(seen.dtype).expand(b, n, -1).clone()
        x_bne[visible_bn] = seen.reshape(-1, self.width)
        x_bne = x_bne + sincos_position(grid, self.width, device=x_bne.device).to(x_bne.dtype)
        x_bne = torch.cat([self.embed(class_bd)[:, None], x_bne], dim=1)
        for block in self.blocks:
            x_bne = block(x_bne)
        features = self.norm(x_bne)[:, 1:]
        return features, self.to_voxels(features)


def lifted(
    decoded_bnd: Float[Tensor, "b n d"],
    patches_bvd: Float[Tensor, "b v d"],
    visible_bn: Bool[Tensor, "b n"],
    grid: tuple[int, int, int],
) -> Float[Tensor, "b d x y z"]:
    """A map of tokens from a masked view: what was decoded at all places, and the encoder's own where it saw the patch.

    Args:
        decoded_bnd: the decoder's features, brought to the encoder's width.
        patches_bvd: the encoder's tokens of the visible patches, in their order.
        visible_bn: True = the encoder saw this patch.
        grid: tokens along x, y, z; n is their product.
    """
    seen = torch.zeros_like(decoded_bnd)
    seen[visible_bn] = patches_bvd.flatten(0, 1).to(seen.dtype)
    return (decoded_bnd + seen).transpose(1, 2).reshape(len(decoded_bnd), -1, *grid)
