"""Segmentation heads: shapes on every backbone, and the linear head against features read voxel by voxel."""

from __future__ import annotations

import pytest
import torch

from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.segmentation import ConvStem, LinearSegmentationNet, SegmentationNet, build_segmenter, features_at

RESUNET = ("resunet", {"widths": [4, 6, 8], "blocks": [1, 1]})
VIT8 = ("vit", {"patch": 8, "width": 24, "depth": 4, "heads": 2})
SWIN = ("swin", {"width": 6, "depths": [1, 2], "heads": [1, 2], "window": 4})
VIT6 = ("vit", {"patch": 6, "width": 24, "depth": 2, "heads": 2})


@pytest.mark.parametrize(("name", "options"), [RESUNET, VIT8, VIT6, SWIN])
@pytest.mark.parametrize("head", ["unet", "linear"])
def test_scores_every_voxel_and_trains_every_weight_of_the_head(name, options, head):
    torch.manual_seed(0)
    backbone = build_backbone(name, 2, options)
    net = build_segmenter(backbone, 3, head)
    volume = torch.randn(2, 2, 24, 24, 48)
    logits = net(volume)
    assert logits.shape == (2, 3, 24, 24, 48)
    logits.square().mean().backward()
    missing = [key for key, p in net.named_parameters() if p.grad is None and not key.startswith("backbone.")]
    assert missing == []


def test_a_batch_equals_its_items_alone():
    torch.manual_seed(0)
    net = SegmentationNet(build_backbone(*_args(RESUNET)), 3).eval()
    volume = torch.randn(2, 1, 8, 8, 8)
    with torch.no_grad():
        alone = torch.cat([net(volume[:1]), net(volume[1:])])
        torch.testing.assert_close(net(volume), alone, rtol=1e-4, atol=1e-5)


def test_freezing_keeps_gradients_out_of_the_backbone():
    net = SegmentationNet(build_backbone(*_args(RESUNET)), 3)
    net(torch.randn(1, 1, 8, 8, 8), freeze_backbone=True).sum().backward()
    assert all(p.grad is None for p in net.backbone.parameters())
    assert any(p.grad is not None for p in net.decoder.parameters())


@pytest.mark.parametrize("described", [RESUNET, VIT6, SWIN])
def test_linear_head_classifies_the_features_read_at_each_voxel(described):
    torch.manual_seed(0)
    backbone = build_backbone(*_args(described)).eval()
    net = LinearSegmentationNet(backbone, 3).eval()
    volume = torch.randn(1, 1, 12, 24, 12)
    index = torch.tensor([[0, 0, 0], [11, 23, 11], [5, 7, 3], [1, 22, 6]])
    with torch.no_grad():
        expected = net.linear(features_at(backbone.pyramid(volume), (12, 24, 12), index))
        got = net(volume)[0][:, index[:, 0], index[:, 1], index[:, 2]].T
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("finest", "strides"), [(2, [1]), (8, [1, 2, 4]), (6, [1, 2]), (16, [1, 2, 4, 8])])
def test_stem_fills_the_missing_strides(finest, strides):
    stem = ConvStem(1, finest, width=4)
    maps = stem(torch.zeros(1, 1, 48, 48, 48))
    assert stem.strides == strides
    assert [48 // m.shape[2] for m in maps] == strides


def _args(described):
    name, options = described
    return name, 1, options
