"""Scans whose voxels say where in the anatomy they lie, and a network that embeds just that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.geometry import Grid, apply_affine, diagonal_affine
from alice3d.matching import EmbeddedScan

CARD = {
    "intensity": {"modality": "ct"},
    "spacing_mm": [4.0, 4.0, 4.0],
    "backbone": {"name": "resunet", "in_channels": 2, "options": {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1]}},
    "matching": {"mode": "direct", "fine_width": 8, "coarse_width": 8},
}
MOVE = np.array([[1.05, 0.04, 0.0, 8.0], [-0.03, 0.96, 0.05, -12.0], [0.0, -0.04, 1.02, 20.0], [0.0, 0.0, 0.0, 1.0]])
"""Query RAS mm to key RAS mm."""


class PlaceNet(nn.Module):
    """Pools three channels of anatomical coordinates (mm) and codes them by waves: alike only at like places."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.fine_waves = torch.randn(3, width, generator=generator) / 22
        self.coarse_waves = torch.randn(3, width, generator=generator) / 70
        self.mirror_blind = False

    def forward(self, volume):
        if self.mirror_blind:
            volume = torch.cat([volume[:, :1].abs(), volume[:, 1:]], dim=1)
        maps = []
        for stride, waves in ((2, self.fine_waves), (8, self.coarse_waves)):
            angle = torch.einsum("bcxyz,cw->bwxyz", F.avg_pool3d(volume, stride), waves)
            maps.append(F.normalize(torch.cat([angle.sin(), angle.cos()], dim=1), dim=1))
        return tuple(maps)


def noise_like(scan: EmbeddedScan) -> EmbeddedScan:
    """An embedding that has nothing to do with the anatomy."""
    generator = torch.Generator().manual_seed(1)
    maps = [F.normalize(torch.randn(level.shape, generator=generator), dim=0) for level in (scan.fine, scan.coarse)]
    return replace(scan, fine=maps[0], coarse=maps[1])


def scan_of(to_anatomy: np.ndarray, shape: tuple[int, int, int], origin_mm: tuple[float, ...], name: str) -> ScanInput:
    """A scan on a 4 mm grid whose channels are the anatomical coordinates; the body is an ellipsoid of the anatomy."""
    grid = Grid(shape, diagonal_affine((4.0, 4.0, 4.0), np.array(origin_mm)))
    world = grid.world(np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1))
    place = apply_affine(to_anatomy, world)
    body = (((place / [80.0, 55.0, 70.0]) ** 2).sum(axis=-1)) < 1
    low, high = world[body].min(axis=0) - 2, world[body].max(axis=0) + 2
    image = np.moveaxis(place, -1, 0).astype(np.float32)
    return ScanInput(image, np.full(3, 500.0, np.float32), body, grid, (tuple(low), tuple(high)), name)
