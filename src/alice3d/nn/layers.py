"""Building blocks that several networks share: channel normalisation, residual and transformer blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

# Shape suffixes: b batch, c channels, xyz voxels, n tokens, d width, h heads.


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each voxel.

    It uses no neighbours, so a voxel's features do not depend on the crop or on masked voxels, as they do with
    instance and batch normalisation. In channels-last memory it is faster than either.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_bcxyz: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b c x y z"]:
        """Normalise each voxel; keeps the input's type, so bfloat16 stays bfloat16 under autocast."""
        with torch.autocast(x_bcxyz.device.type, enabled=False):
            last = x_bcxyz.permute(0, 2, 3, 4, 1)
            weight, bias = self.weight.to(last.dtype), self.bias.to(last.dtype)
            return F.layer_norm(last, (last.shape[-1],), weight, bias).permute(0, 4, 1, 2, 3)


class Conv3(nn.Conv3d):
    """3³ convolution with padding that keeps the size.

    In torch 2.13 the CPU's bfloat16 weight gradient of a 3³ convolution is wrong where the first side is two voxels
    (oneDNN; a test shows it): there it computes in float32.
    """

    def __init__(self, in_channels: int, channels: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, channels, 3, padding=1, bias=bias)

    def forward(self, input: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b d x y z"]:
        """(b, in, x, y, z) to (b, channels, x, y, z)."""
        if input.shape[2] == 2 and input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float())
        return super().forward(input)


class ResidualBlock(nn.Module):
    """Two 3³ convolutions around a shortcut: x + norm(conv(gelu(norm(conv(x))))), then gelu."""

    def __init__(self, in_channels: int, channels: int, norm: Callable[[int], nn.Module] = ChannelNorm) -> None:
        super().__init__()
        self.conv1 = Conv3(in_channels, channels, bias=False)
        self.norm1 = norm(channels)
        self.conv2 = Conv3(channels, channels, bias=False)
        self.norm2 = norm(channels)
        self.shortcut = nn.Conv3d(in_channels, channels, 1) if in_channels != channels else nn.Identity()

    def forward(self, x_bcxyz: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b d x y z"]:
        """(b, in, x, y, z) to (b, channels, x, y, z)."""
        y_bcxyz = F.gelu(self.norm1(self.conv1(x_bcxyz)))
        y_bcxyz = self.norm2(self.conv2(y_bcxyz))
        return F.gelu(self.shortcut(x_bcxyz) + y_bcxyz)


SHORT = 512
"""Number of keys up to which `attention` computes the score matrix on a CPU."""


def attention(
    q_bhnd: Float[Tensor, "b h n d"],
    k_bhmd: Float[Tensor, "b h m d"],
    v_bhmd: Float[Tensor, "b h m d"],
    bias_1hnm: Float[Tensor, "1 h n m"] | None = None,
) -> Float[Tensor, "b h n d"]:
    """softmax(q kᵀ / √d + bias) v, by torch's fused kernel, which never stores the n x m scores.

    Except for short sequences on a CPU: in bfloat16 the fused kernel of torch 2.13 takes twice (217 tokens) to four
    times (55 tokens) as long, forward and backward, as two explicit matrix products; and it has no gradient of a
    bias, for which torch's fallback is slower too.
    """
    written_out = q_bhnd.dtype == torch.bfloat16 or (bias_1hnm is not None and bias_1hnm.requires_grad)
    if q_bhnd.device.type == "cpu" and written_out and k_bhmd.shape[2] <= SHORT:
        scores_bhnm: Tensor = (q_bhnd * q_bhnd.shape[-1] ** -0.5) @ k_bhmd.transpose(2, 3)
        if bias_1hnm is not None:
            scores_bhnm = scores_bhnm + bias_1hnm
        mixed: Tensor = scores_bhnm.softmax(dim=-1) @ v_bhmd
        return mixed
    if bias_1hnm is not None:
        bias_1hnm = bias_1hnm.expand(len(q_bhnd), -1, -1, -1)
    return F.scaled_dot_product_attention(q_bhnd, k_bhmd, v_bhmd, attn_mask=bias_1hnm)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and MLP (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        hidden = int(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x_bnd: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Tokens in, tokens out."""
        b, n, d = x_bnd.shape
        qkv = self.qkv(self.norm1(x_bnd)).view(b, n, 3, self.heads, d // self.heads)
        q_bhnd, k_bhnd, v_bhnd = qkv.permute(2, 0, 3, 1, 4)
        mixed = attention(q_bhnd, k_bhnd, v_bhnd)
        x_bnd = x_bnd + self.out(mixed.transpose(1, 2).reshape(b, n, d))
        out: Tensor = x_bnd + self.mlp(self.norm2(x_bnd))
        return out


def sincos_position(grid: tuple[int, int, int], width: int, *, device: torch.device | None = None) -> Tensor:
    """Fixed sine-cosine embedding of token positions on a 3D grid of any size, so that any crop size works.

    Each axis has a third of the width (rounded down to an even number; the rest is zero), with wavelengths
    from 2π to 2π·100 tokens, since grids have tens of tokens per axis and not thousands.

    Returns:
        (n, width) float32, n = product of `grid`, in x-major order.
    """
    per_axis = width // 6  # pairs of sine and cosine per axis
    frequency = 100.0 ** (-torch.arange(per_axis, dtype=torch.float32, device=device) / max(per_axis, 1))
    axes = [torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in grid]
    position_n3 = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)
    angle = position_n3[:, :, None] * frequency
    code = torch.cat([angle.sin(), angle.cos()], dim=-1).reshape(len(position_n3), -1)
    return F.pad(code, (0, width - code.shape[1]))


def take_visible(tokens_bnd: Float[Tensor, "b n d"], visible_bn: Tensor) -> Float[Tensor, "b v d"]:
    """Keep the tokens where `visible` is True; every row of it holds the same number of them."""
    b, _, d = tokens_bnd.shape
    return tokens_bnd[visible_bn].view(b, -1, d)
