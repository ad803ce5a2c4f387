"""Feature pyramid over a backbone: a fine and a coarse embedding of unit length for every position."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from alice3d.nn.backbones.base import Backbone
from alice3d.nn.layers import ChannelNorm, Conv3


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)


def _embedding(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(ChannelNorm(width), Conv3(width, width), nn.GELU(), nn.Conv3d(width, out, 1))


def _embedding_of_tokens(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(ChannelNorm(width), nn.Conv3d(width, width, 1), nn.GELU(), nn.Conv3d(width, out, 1))


class PyramidHead(nn.Module):
    """Top-down path over maps at strides 2, 4 and 8 (feature pyramid network, Lin et al., CVPR 2017).

    Args:
        channels: of the backbone's maps, the last three of which lie at strides 2, 4, 8.
        fine_width: channels of the fine embedding, at stride 2.
        coarse_width: channels of the coarse embedding, at stride 8.
    """

    def __init__(self, channels: list[int], *, fine_width: int = 32, coarse_width: int = 64) -> None:
        super().__init__()
        two, four, eight = channels[-3:]
        self.lateral2 = nn.Conv3d(two, fine_width, 1)
        self.lateral4 = nn.Conv3d(four, coarse_width, 1)
        self.lateral8 = nn.Conv3d(eight, coarse_width, 1)
        self.narrow = nn.Conv3d(coarse_width, fine_width, 1)
        self.fine = _embedding(fine_width, fine_width)
        self.coarse = _embedding(coarse_width, coarse_width)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Pyramid to [fine (b, f, x/2, …), coarse (b, c, x/8, …)], float32, unit length over channels."""
        two, four, eight = maps[-3:]
        top8 = self.lateral8(eight)
        top4 = self.lateral4(four) + _upsample(top8)
        top2 = self.lateral2(two) + _upsample(self.narrow(top4))
        return [F.normalize(self.fine(top2).float(), dim=1), F.normalize(self.coarse(top8).float(), dim=1)]


class TokenHead(nn.Module):
    """Embedding of the deepest map only, for backbones without the finer strides (ViT).

    Each token separately: it has attended to all others, and a kernel of 3³ would cost as much as an encoder's block.
    """

    def __init__(self, channels: list[int], *, width: int = 64) -> None:
        super().__init__()
        self.coarse = _embedding_of_tokens(channels[-1], width)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Pyramid of the backbone to [embedding (b, width, …)] at its deepest stride, float32, unit length."""
        return [F.normalize(self.coarse(maps[-1]).float(), dim=1)]


def has_pyramid(backbone: Backbone) -> bool:
    """Whether a backbone has the scales that fine and coarse embeddings need (residual U-Net, Swin of patch 2)."""
    return backbone.strides[-3:] == [2, 4, 8]


def dense_head(backbone: Backbone) -> nn.Module:
    """The head that turns a backbone's pyramid into unit-length maps for dense contrast."""
    return PyramidHead(backbone.channels) if has_pyramid(backbone) else TokenHead(backbone.channels)


class TrunkLevels(nn.Module):
    """The backbone's own maps as further parts of an embedding: standardised over bodies, unit length at each position.

    The head keeps only what the contrastive loss needs; the backbone's maps hold more, and both together reduce the
    matching error by half a millimetre. Weights grow with the stride: deep maps encode the rough position in the body,
    fine maps the exact one.

    Args:
        channels: of the backbone's maps at strides 1, 2, 4, 8.

    Attributes:
        mean, deviation: of each channel over the bodies of some scans, all maps concatenated.
    """

    mean: Tensor
    deviation: Tensor
    SHARES = (1 / 15, 2 / 15, 4 / 15, 8 / 15)

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.channels = list(channels)
        self.register_buffer("mean", torch.zeros(sum(channels)))
        self.register_buffer("deviation", torch.ones(sum(channels)))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Pyramid to [strides 1, 2 and 4 concatenated at stride 2, stride 8]; squared lengths add up to 1."""
        means, deviations = (torch.split(value, self.channels) for value in (self.mean, self.deviation))
        one, two, four, eight = (
            (level.float() - mean.view(1, -1, 1, 1, 1)) / deviation.view(1, -1, 1, 1, 1)
            for level, mean, deviation in zip(maps, means, deviations, strict=True)
        )
        levels = [F.avg_pool3d(one, 2), two, _upsample(four), eight]
        *fine, coarse = (share**0.5 * F.normalize(x, dim=1) for share, x in zip(self.SHARES, levels, strict=True))
        return torch.cat(fine, dim=1), coarse


class FPN3D(nn.Module):
    """SAM's network (Yan et al., TMI 2022, arXiv 2012.02383): coarse position, fine detail, both of unit length.

    Args:
        backbone: with maps at strides 1, 2, 4 and 8 (the residual U-Net).
        fine_width, coarse_width: see `PyramidHead`.
        trunk: concatenate the backbone's maps to both embeddings, with the same weight as the head; for matching, not
            for training.

    Raises:
        ValueError: the backbone has other strides.
    """

    fine_stride = 2
    coarse_stride = 8

    def __init__(
        self, backbone: Backbone, *, fine_width: int = 32, coarse_width: int = 64, trunk: bool = False
    ) -> None:
        super().__init__()
        if backbone.strides != [1, 2, 4, 8]:  # embeddings of tiles must not depend on the tiling
            raise ValueError(f"the matcher needs a backbone with strides 1, 2, 4, 8; got {backbone.strides}")
        self.backbone = backbone
        self.head = PyramidHead(backbone.channels, fine_width=fine_width, coarse_width=coarse_width)
        self.trunk = TrunkLevels(backbone.channels) if trunk else None

    def forward(self, volume: Float[Tensor, "b c x y z"]) -> tuple[Tensor, Tensor]:
        """Embed crops or a whole scan.

        Args:
            volume: sides are multiples of 8.

        Returns:
            fine (b, fine_width, x/2, y/2, z/2) and coarse (b, coarse_width, x/8, y/8, z/8), float32, unit length over
            channels; with `trunk` the channels of the backbone's maps are added.
        """
        maps = self.backbone.pyramid(volume)
        fine, coarse = self.head(maps)
        if self.trunk is None:
            return fine, coarse
        more_fine, more_coarse = self.trunk(maps)
        # Head and backbone have equal weight; in each the weights of its two parts are kept, and the result has unit
        # length.
        fine = torch.cat([fine * 0.5**0.5, more_fine], dim=1)
        coarse = torch.cat([coarse * 0.5**0.5, more_coarse], dim=1)
        return F.normalize(fine, dim=1), F.normalize(coarse, dim=1)
