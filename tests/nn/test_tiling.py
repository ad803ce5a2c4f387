"""Sliding windows against whole scans and MONAI; label maps on other grids; pieces."""

from __future__ import annotations

import monai
import numpy as np
import pytest
import torch
from torch import nn

from alice3d.geometry import Grid, diagonal_affine
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.segmentation import SegmentationNet
from alice3d.nn.tiling import gaussian_window, predict_probabilities, window_starts
from alice3d.tasks.segmentation.model import classes_on_grid, keep_largest_piece


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


def _blobs() -> np.ndarray:
    """Three classes: two balls in a volume of background."""
    ijk = np.stack(np.meshgrid(*[np.arange(n) for n in (20, 24, 16)], indexing="ij"), axis=-1)
    logits = [np.zeros(ijk.shape[:3])]
    for centre in ((6, 6, 8), (14, 17, 7)):
        logits.append(3 * (4 - np.linalg.norm(ijk - np.array(centre), axis=-1)))
    e = np.exp(np.stack(logits))
    return (e / e.sum(axis=0)).astype(np.float32)


def test_classes_on_the_same_grid_are_the_argmax():
    p = _blobs()
    grid = Grid((20, 24, 16), diagonal_affine((2, 2, 3), np.zeros(3)))
    np.testing.assert_array_equal(classes_on_grid(p, grid, grid), p.argmax(axis=0))


def test_classes_on_another_grid_equal_reading_every_class_everywhere():
    p = _blobs()
    grid = Grid((20, 24, 16), diagonal_affine((2, 2, 3), np.array([-20.0, 5, 3])))
    turn = np.array([[0, -1.1, 0.1], [1.2, 0, 0], [0, 0.1, 1.5]])
    affine = np.eye(4)
    affine[:3, :3] = turn
    affine[:3, 3] = (25, 0, -3)
    target = Grid((45, 50, 40), affine)
    from alice3d.geometry import resample

    every = [resample(c, grid.affine, target, order=1, fill=0.0 if k else 1.0) for k, c in enumerate(p)]
    expected = np.stack(every).argmax(axis=0)
    got = classes_on_grid(p, grid, target)
    assert got.max() == 2
    np.testing.assert_array_equal(got, expected)


def test_a_scan_without_structures_is_background():
    p = np.zeros((3, 4, 4, 4), np.float32)
    p[0] = 1
    grid = Grid((4, 4, 4), np.eye(4))
    assert not classes_on_grid(p, grid, Grid((9, 9, 9), np.diag([0.5, 0.5, 0.5, 1]))).any()


def test_only_the_largest_piece_of_the_named_classes_stays():
    classes = np.zeros((10, 4, 4), np.int16)
    classes[0:2], classes[4:5], classes[6:7], classes[8:10] = 1, 1, 2, 2
    keep_largest_piece(classes, [1])
    assert (classes[4] == 0).all()
    assert (classes[0] == 1).all()
    assert (classes[6] == 2).all()
    assert (classes[9] == 2).all()
