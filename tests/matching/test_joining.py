"""Adding backbone features to a matcher: statistics over bodies, unchanged weights, and they are in the file."""

from __future__ import annotations

from pathlib import Path

import torch

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.store import Store
from alice3d.matching.joining import join_backbone_maps
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.embedding import FPN3D
from alice3d.nn.heads.segmentation import features_at


def test_standardised_features_have_mean_0_and_deviation_1_over_the_bodies(tiny_store: Path) -> None:
    torch.manual_seed(0)
    rule, store = IntensityRule(), Store.open(tiny_store)
    options = {"widths": [4, 6, 8, 10], "blocks": [1, 1, 1]}
    network = FPN3D(build_backbone("resunet", rule.channels, options), fine_width=8, coarse_width=8).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    cases = store.cases()[:2]
    join_backbone_maps(network, store, cases, rule, store.spec.spacing_mm, crop=16, device=torch.device("cpu"))
    assert network.training
    assert network.trunk is not None
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())
    read = []
    for case in cases:
        scan = ScanInput.of_case(store, case, rule, store.spec.spacing_mm)
        ends = [(-n) % 8 for n in scan.image.shape[1:]]
        image = torch.from_numpy(scan.image)
        lowest = image.amin(dim=(1, 2, 3), keepdim=True)
        padded = torch.nn.functional.pad(image - lowest, [0, ends[2], 0, ends[1], 0, ends[0]]) + lowest
        with torch.no_grad():
            maps = network.eval().backbone.pyramid(padded[None])
        index = torch.from_numpy(scan.body).nonzero()
        read.append(features_at(maps, tuple(padded.shape[1:]), index))
    features = (torch.cat(read) - network.trunk.mean) / network.trunk.deviation
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(28), atol=1e-3, rtol=0)
    torch.testing.assert_close(features.std(dim=0), torch.ones(28), atol=1e-2, rtol=0)
