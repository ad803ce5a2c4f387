"""3D Swin transformer: attention within windows that shift from block to block, over three scales."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from alice3d.nn.backbones.base import Backbone
from alice3d.nn.backbones.windows import WindowAttention, into_windows, sides_of
from alice3d.nn.layers import take_visible

# Shape suffixes: b batch, xyz places of a grid, n tokens, d width.

SIZES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "tiny": (48, (2, 2, 6), (3, 6, 12)),
    "small": (96, (2, 2, 6), (3, 6, 12)),
    "base": (128, (2, 2, 18), (4, 8, 16)),
}
"""Name to (width of the first scale, blocks a scale, heads a scale): the first three scales of Swin-T and Swin-B (Liu
et al., ICCV 2021), tiny with the width of Swin UNETR (Tang et al., CVPR 2022). Their fourth scale is left out: at patch
2 it would give tokens of 16 voxels, 27 of them in a crop of 48³."""


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP (Liu et al., ICCV 2021, equation 3)."""

    def __init__(self, width: int, heads: int, *, window: int, shifted: bool, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1 = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, window=window, shifted=shifted)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x_bxyzd: Float[Tensor, "b x y z d"]) -> Float[Tensor, "b x y z d"]:
        """Features in, features out."""
        x_bxyzd = x_bxyzd + self.attention(self.norm1(x_bxyzd))
        out: Tensor = x_bxyzd + self.mlp(self.norm2(x_bxyzd))
        return out


class PatchMerging(nn.Module):
    """Join 2³ neighbours: half as many places an axis, twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8 * width)
        self.reduce = nn.Linear(8 * width, 2 * width, bias=False)

    def forward(self, x_bxyzd: Float[Tensor, "b x y z d"]) -> Float[Tensor, "b x2 y2 z2 d2"]:
        """(b, x, y, z, d) to (b, x/2, y/2, z/2, 2 d); sides are even."""
        grid = sides_of([n // 2 for n in x_bxyzd.shape[1:4]])
        joined = into_windows(x_bxyzd, (2, 2, 2)).flatten(2)
        out: Tensor = self.reduce(self.norm(joined)).unflatten(1, grid)
        return out


def _a_scale(given: Sequence[int] | int | None, default: tuple[int, ...]) -> tuple[int, ...]:
    """One number a scale; a single number, as a command line gives it, is one scale."""
    if given is None:
        return default
    return (given,) if isinstance(given, int) else tuple(given)


class Swin3D(Backbone):
    """Patches to window attention at three scales; the deep grid's features are the tokens.

    A hidden patch cannot be dropped, since windows need their full grid: a learned mask token takes its place before
    the first block (SimMIM, Xie et al., CVPR 2022), so nothing of a hidden voxel enters. There is no position code:
    offsets within windows are all that attention knows of places.

    The class token is a linear map of the mean over the visible tokens: what Swin classifies by, and what stands for
    the whole image in its self-distillation (EsViT, Li et al., ICLR 2022), with the hidden places left out of it.

    Args:
        in_channels: channels of the volume.
        size: `tiny`, `small` or `base`.
        patch: voxels a side of a patch at the first scale; tokens span `patch` times 2 for each further scale.
        window: most places a side of a window; 6 divides the grids of 48³ and 96³ crops, other grids take equal
            windows of at most that side.
        width, depths, heads: each overrides the named size where given; one entry of `depths` and `heads` a scale.
        checkpoint: see `Backbone`.
    """

    name = "swin"

    def __init__(
        self,
        *,
        in_channels: int = 1,
        size: str = "tiny",
        patch: int = 2,
        window: int = 6,
        width: int | None = None,
        depths: Sequence[int] | int | None = None,
        heads: Sequence[int] | int | None = None,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if size not in SIZES:
            raise ValueError(f"size {size!r} is unknown; known are {', '.join(SIZES)}")
        if patch < 1 or window < 2:
            raise ValueError(f"patch {patch} must be at least 1 and window {window} at least 2")
        default_width, default_depths, default_heads = SIZES[size]
        first, depths, heads = width or default_width, _a_scale(depths, default_depths), _a_scale(heads, default_heads)
        if len(depths) != len(heads):
            raise ValueError(f"depths {list(depths)} and heads {list(heads)} must have one entry a scale each")
        self.in_channels = in_channels
        self.channels = [first * 2**scale for scale in range(len(depths))]
        self.strides = [patch * 2**scale for scale in range(len(depths))]
        self.width, self.stride, self.entry_width = self.channels[-1], self.strides[-1], first
        self.patch, self.checkpoint = patch, checkpoint
        self.embed = nn.Linear(in_channels * patch**3, first)
        self.mask_token = nn.Parameter(torch.zeros(first))
        self.merge = nn.ModuleList([nn.Identity(), *(PatchMerging(channels) for channels in self.channels[:-1])])
        self.stages = nn.ModuleList()
        for channels, count, number in zip(self.channels, depths, heads, strict=True):
            blocks = [SwinBlock(channels, number, window=window, shifted=i % 2 == 1) for i in range(count)]
            self.stages.append(nn.ModuleList(blocks))
        self.norm = nn.LayerNorm(self.width)
        self.class_token = nn.Linear(self.width, self.width)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def _enter(self, volume: Tensor, visible: Tensor | None, mask_token: Tensor) -> Tensor:
        """The first scale's grid (b, x, y, z, d), mask tokens where patches are hidden."""
        b, c, side, token_grid = len(volume), self.in_channels, self.patch, self.token_grid(volume.shape[2:])
        grid = sides_of([n // side for n in volume.shape[2:]])
        cut = volume.reshape(b, c, grid[0], side, grid[1], side, grid[2], side)
        x_bxyzd: Tensor = self.embed(cut.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, *grid, c * side**3))
        if visible is None:
            return x_bxyzd
        seen = visible.view(b, *token_grid)
        for axis in (1, 2, 3):
            seen = seen.repeat_interleave(self.stride // side, axis)
        return torch.where(seen[..., None], x_bxyzd, mask_token.to(x_bxyzd.dtype))

    def _maps(self, volume: Tensor, visible: Tensor | None, mask_token: Tensor | None = None) -> list[Tensor]:
        """Every scale's features (b, x, y, z, d), finest first; the deepest normalised."""
        x_bxyzd = self._enter(volume, visible, self.mask_token if mask_token is None else mask_token)
        maps: list[Tensor] = []
        for merge, stage in zip(self.merge, self.stages, strict=True):
            x_bxyzd = merge(x_bxyzd)
            for block in stage:  # type: ignore[attr-defined]
                x_bxyzd = self.through(block, x_bxyzd)
            maps.append(x_bxyzd)
        maps[-1] = self.norm(maps[-1])
        return maps

    def _class(self, tokens_bnd: Tensor) -> Tensor:
        out: Tensor = self.class_token(tokens_bnd.mean(dim=1))
        return out

    def tokens(
        self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b v d"]]:
        """See `Backbone.tokens`; hidden places have taken part, but their tokens are not given."""
        tokens_bnd = self._maps(volume, visible)[-1].flatten(1, 3)
        if visible is not None:
            tokens_bnd = take_visible(tokens_bnd, visible)
        return self._class(tokens_bnd), tokens_bnd

    def masked_tokens(
        self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"], mask_token: Float[Tensor, " e"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n d"]]:
        """See `Backbone.masked_tokens`; the class token is a linear map of the mean over all tokens."""
        tokens_bnd = self._maps(volume, visible, mask_token)[-1].flatten(1, 3)
        return self._class(tokens_bnd), tokens_bnd

    def pyramid(self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"] | None = None) -> list[Tensor]:
        """See `Backbone.pyramid`; every scale normalised, so that a head meets one scale of numbers."""
        if visible is not None:
            raise ValueError("a Swin has no maps with places left out")
        return self.whole(volume)[2]

    def whole(self, volume: Float[Tensor, "b c x y z"]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """See `Backbone.whole`: one pass gives all."""
        *fine, deep = self._maps(volume, None)
        tokens_bnd = deep.flatten(1, 3)
        # Without weights: a scale that an objective leaves unused would hold parameters that never learn.
        maps = [F.layer_norm(level, level.shape[-1:]) for level in fine]
        return self._class(tokens_bnd), tokens_bnd, [level.permute(0, 4, 1, 2, 3) for level in (*maps, deep)]
