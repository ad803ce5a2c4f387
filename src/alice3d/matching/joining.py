"""The backbone's own feature maps as part of what a matcher embeds: standardised over the bodies of some scans."""

from __future__ import annotations

import numpy as np
import torch

from alice3d import console
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.store import Case, Store
from alice3d.nn.heads.embedding import FPN3D, TrunkLevels
from alice3d.nn.heads.segmentation import features_at
from alice3d.nn.tiling import read_pyramids, reading_window

SCANS = 16
"""Scans over whose bodies the maps are standardised."""
PLACES = 20_000
"""About as many voxels of each body are read, on a regular lattice."""


@torch.no_grad()
def join_backbone_maps(
    network: FPN3D,
    store: Store,
    cases: list[Case],
    rule: IntensityRule,
    spacing_mm: tuple[float, float, float],
    *,
    crop: int,
    device: torch.device,
) -> None:
    """Let a network join its backbone's maps, standardised over bodies, to what it embeds, in place.

    Args:
        network: whose `trunk` is set, on the device where its weights are.
        store, cases: scans that it learnt from; up to `SCANS` of them, evenly spread, are read.
        rule, spacing_mm: how it reads scans.
        crop: voxels a side of the crops that it learnt from.
        device: where to compute.
    """
    window, whole_voxels = reading_window(network.backbone, crop)
    modes = [(module, module.training) for module in network.modules()]
    network.eval().to(device)
    chosen = [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, SCANS).astype(int))]
    channels = network.backbone.channels
    sums, squares, count = torch.zeros(sum(channels)).double(), torch.zeros(sum(channels)).double(), 0
    with console.progress("Standardising", len(chosen)) as bar:
        for case in chosen:
            scan = ScanInput.of_case(store, case, rule, spacing_mm)
            step = max(round((scan.body.sum() / PLACES) ** (1 / 3)), 1)
            index = np.argwhere(scan.body[::step, ::step, ::step]) * step
            for piece, pyramid in read_pyramids(network.backbone, scan.image, window, whole_voxels, device):
                own = ((index >= piece.own_low) & (index < piece.own_high)).all(axis=1)
                at = torch.from_numpy(index[own] - piece.low).float().to(device)
                features = features_at(pyramid, piece.side, at).cpu().double()  # MPS knows no float64
                sums += features.sum(dim=0)
                squares += features.square().sum(dim=0)
                count += len(features)
            bar.advance(note=case.id)
    trunk, mean = TrunkLevels(channels), sums / max(count, 1)
    trunk.mean.copy_(mean)
    trunk.deviation.copy_((squares / max(count, 1) - mean**2).clamp_min(1e-12).sqrt())
    network.trunk = trunk.to(device)
    for module, mode in modes:
        module.training = mode
