"""Sliding windows against whole scans and MONAI; pieces that hold every voxel once."""

from __future__ import annotations

import monai
import numpy as np
import pytest
import torch
from torch import nn

from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.segmentation import SegmentationNet
from alice3d.nn.tiling import gaussian_window, predict_probabilities, tiles_of, window_starts


class Pointwise(nn.Module):
    """A net that sees one voxel at a time: windows cannot change it."""

    def __init__(self, side: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(1, 3, side, padding=side // 2)

    def forward(self, volume):
        return self.conv(volume)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 22, 17, 30)).astype(np.float32)


def test_windows_go_one_by_one_where_memory_does_not_take_them_together(image):
    net = Pointwise(3)
    together = predict_probabilities(net, image, window=8, whole_voxels=0)

    class Small(nn.Module):
        def forward(self, volume):
            if len(volume) > 1:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return net(volume)

    np.testing.assert_allclose(predict_probabilities(Small(), image, window=8, whole_voxels=0), together, atol=1e-6)

    class Smaller(nn.Module):
        def forward(self, volume):
            raise MemoryError

    with pytest.raises(MemoryError):
        predict_probabilities(Smaller(), image, window=8, whole_voxels=0)


def test_windows_equal_the_whole_for_a_net_that_sees_one_voxel(image):
    net = Pointwise()
    whole = predict_probabilities(net, image, window=8)
    cut = predict_probabilities(net, image, window=8, whole_voxels=0, batch=3)
    np.testing.assert_allclose(cut, whole, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(whole, net(torch.from_numpy(image)[None]).softmax(1)[0].numpy(), atol=1e-6)


def test_probabilities_sum_to_one_whatever_the_sides(image):
    torch.manual_seed(0)
    net = SegmentationNet(build_backbone("resunet", 1, {"widths": [4, 6, 8], "blocks": [1, 1]}), 3).eval()
    for whole in (0, 10**6):
        p = predict_probabilities(net, image, window=10, whole_voxels=whole)
        assert p.shape == (3, 22, 17, 30)
        np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-5)


def test_padding_does_not_reach_voxels_far_from_the_end(image):
    torch.manual_seed(0)
    net = SegmentationNet(build_backbone("resunet", 1, {"widths": [4, 6], "blocks": [1]}), 3).eval()
    cut = predict_probabilities(net, image[:, :20, :16, :], window=16)
    odd = predict_probabilities(net, image[:, :20, :16, :29], window=16)
    np.testing.assert_allclose(odd[..., :10], cut[..., :10], atol=1e-5)


@pytest.mark.parametrize("window", [8, 12])
def test_windows_equal_monai(image, window):
    net = Pointwise(side=3).eval()
    ours = predict_probabilities(net, image, window=window, whole_voxels=0)
    oracle = monai.inferers.sliding_window_inference(
        torch.from_numpy(image)[None],
        (window,) * 3,
        2,
        lambda x: net(x).softmax(1),
        overlap=0.5,
        mode="gaussian",
        sigma_scale=0.125,
    )
    np.testing.assert_allclose(ours, oracle[0].detach().numpy(), atol=1e-5)


def test_gaussian_equals_monai():
    shape = (8, 12, 5)
    oracle = monai.data.utils.compute_importance_map(shape, mode="gaussian", sigma_scale=0.125)
    torch.testing.assert_close(gaussian_window(shape), oracle)


@pytest.mark.parametrize(("length", "window"), [(5, 8), (8, 8), (9, 8), (31, 8)])
def test_windows_cover_everything(length, window):
    starts = window_starts(length, window, 0.5)
    covered = {i for s in starts for i in range(s, s + window)}
    assert covered >= set(range(length))
    assert starts[-1] == max(length - window, 0)


@pytest.mark.parametrize("window", [None, 8, 16])
@pytest.mark.parametrize("shape", [(5, 8, 17), (16, 16, 16), (31, 9, 40)])
def test_every_voxel_belongs_to_one_tile_that_holds_it(shape, window):
    count = np.zeros(shape, int)
    for tile in tiles_of(shape, 4, window):
        assert all(side % 4 == 0 for side in tile.side)
        for a, b, low, side in zip(tile.own_low, tile.own_high, tile.low, tile.side, strict=True):
            assert low <= a < b <= low + side
        count[tuple(slice(a, b) for a, b in zip(tile.own_low, tile.own_high, strict=True))] += 1
    assert (count == 1).all()
