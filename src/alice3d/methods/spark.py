"""SparK: a convolutional encoder that leaves hidden places out of every map, and a U-Net decoder that fills them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from alice3d.config import Config
from alice3d.losses.reconstruct import patchify
from alice3d.methods.masked_reconstruction import MaskedReconstruction, MaskedReconstructionConfig
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.heads.segmentation import Decoder
from alice3d.nn.layers import ChannelNorm


class SparKConfig(MaskedReconstructionConfig):
    """Settings of SparK."""

    sparse: bool = True
    """Set hidden places to zero in every map, and give the decoder a learnt value there; off = only the input's hidden
    voxels are zero (masked autoencoder of a plain convolutional network, as nnssl's)."""


class Densify(nn.Module):
    """A level of the sparse pyramid made dense: normalised, a learnt value where nothing was seen, one convolution.

    Args:
        channels: of the map.
        kernel: of the convolution.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.mask_token = nn.Parameter(torch.zeros(1, channels, 1, 1, 1))
        self.conv = nn.Conv3d(channels, channels, kernel, padding=kernel // 2)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, level: Tensor, visible_bxyz: Tensor) -> Tensor:
        """Map (b, c, x, y, z) and mask (b, x', y', z'), whose sides divide the map's."""
        seen = visible_bxyz[:, None]
        for axis in (2, 3, 4):
            seen = seen.repeat_interleave(level.shape[axis] // seen.shape[axis], axis)
        normed = self.norm(level)
        out: Tensor = self.conv(torch.where(seen, normed, self.mask_token.to(normed.dtype)))
        return out


class SparK(MaskedReconstruction):
    """Masked autoencoder of a whole U-Net (SparK, Tian et al., ICLR 2023; in 3D S3D, Wald et al., CVPR 2025).

    The input is masked, so that no kernel reads a hidden voxel; with the package's norms, which look at single voxels,
    no statistic does either. Targets are normalised within each patch, as in SparK; `normalised` off as in S3D.
    """

    Config: ClassVar[type[Config]] = SparKConfig
    paper: ClassVar[str] = "Tian et al., ICLR 2023, arXiv 2301.03580; Wald et al., CVPR 2025, arXiv 2410.23132"

    @classmethod
    def unfit(cls, backbone: Backbone, config: SparKConfig) -> str:
        """See `PretrainMethod.unfit`."""
        if backbone.takes_masked_pyramid:
            return ""
        return "sparse maps are for convolutional backbones; take simmim or mae with this one"

    def __init__(self, backbone: Backbone, config: SparKConfig, *, crop: int, total_steps: int) -> None:
        super().__init__(backbone, config, crop=crop, total_steps=total_steps)
        deepest = len(backbone.channels) - 1
        self.densify = nn.ModuleList([Densify(c, 1 if i == deepest else 3) for i, c in enumerate(backbone.channels)])
        self.decoder = Decoder(backbone.channels, backbone.strides, backbone.in_channels)
        self.start_teacher("densify", "decoder")

    def rebuild(self, volumes: Tensor, visible: Tensor, *, target: bool = False) -> Tensor:
        """See `MaskedReconstruction.rebuild`."""
        backbone: Backbone = self.part("backbone", target=target)
        grid = backbone.token_grid(volumes.shape[2:])
        seen = visible.view(len(visible), *grid)
        if self.config.sparse:
            maps = backbone.pyramid(volumes, visible)
            maps = [dense(level, seen) for dense, level in zip(self.part("densify", target=target), maps, strict=True)]
        else:
            whole = seen[:, None]
            for axis in (2, 3, 4):
                whole = whole.repeat_interleave(backbone.stride, axis)
            maps = backbone.pyramid(torch.where(whole, volumes, 0))
        return patchify(self.part("decoder", target=target)(maps), backbone.stride)
