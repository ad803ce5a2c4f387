"""Feature pyramid over a backbone: a fine and a coarse embedding of unit length for every place."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from alice3d.nn.base import Backbone
from alice3d.nn.layers import ChannelNorm


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)


class FPN3D(nn.Module):
    """SAM's network (Yan et al., TMI 2022, arXiv 2012.02383): coarse places, fine details, both of unit length.

    Args:
        backbone: gives maps at strides 2, 4 and 8 (the residual U-Net).
        fine_width: channels of the fine embedding, at stride 2.
        coarse_width: channels of the coarse embedding, at stride 8.
    """

    fine_stride = 2
    coarse_stride = 8

    def __init__(self, backbone: Backbone, *, fine_width: int = 32, coarse_width: int = 64) -> None:
        super().__init__()
        if backbone.strides != [1, 2, 4, 8]:
            raise ValueError(f"the matcher needs a backbone with strides 1, 2, 4, 8; got {backbone.strides}")
        self.backbone = backbone
        _, two, four, eight = backbone.channels
        self.lateral2 = nn.Conv3d(two, fine_width, 1)
        self.lateral4 = nn.Conv3d(four, coarse_width, 1)
        self.lateral8 = nn.Conv3d(eight, coarse_width, 1)
        self.narrow = nn.Conv3d(coarse_width, fine_width, 1)
        self.fine = nn.Sequential(
            ChannelNorm(fine_width),
            nn.Conv3d(fine_width, fine_width, 3, padding=1),
            nn.GELU(),
            nn.Conv3d(fine_width, fine_width, 1),
        )
        self.coarse = nn.Sequential(
            ChannelNorm(coarse_width),
            nn.Conv3d(coarse_width, coarse_width, 3, padding=1),
            nn.GELU(),
            nn.Conv3d(coarse_width, coarse_width, 1),
        )

    def forward(self, volume: Float[Tensor, "b c x y z"]) -> tuple[Tensor, Tensor]:
        """Embed crops or a whole scan.

        Args:
            volume: sides are multiples of 8.

        Returns:
            fine (b, fine_width, x/2, y/2, z/2) and coarse (b, coarse_width, x/8, y/8, z/8), float32, unit length over
            channels.
        """
        _, two, four, eight = self.backbone.pyramid(volume)
        top8 = self.lateral8(eight)
        top4 = self.lateral4(four) + _upsample(top8)
        top2 = self.lateral2(two) + _upsample(self.narrow(top4))
        fine = F.normalize(self.fine(top2).float(), dim=1)
        coarse = F.normalize(self.coarse(top8).float(), dim=1)
        return fine, coarse
