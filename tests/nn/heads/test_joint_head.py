"""The head `both`: a linear layer over the pyramid that a decoder corrects."""

from __future__ import annotations

import torch

from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.segmentation import JointSegmentationNet, LinearSegmentationNet, build_segmenter


def joint() -> JointSegmentationNet:
    torch.manual_seed(0)
    net = build_segmenter(build_backbone("resunet", 1, {"widths": [4, 6, 8], "blocks": [1, 1]}), 3, "both")
    assert isinstance(net, JointSegmentationNet)
    return net


def test_it_begins_as_the_linear_head_alone():
    net = joint().eval()
    linear = LinearSegmentationNet(net.backbone, 3)
    linear.linear.load_state_dict(net.linear.state_dict())
    volume = torch.randn(1, 1, 8, 8, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(volume), linear.eval()(volume))


def test_every_weight_of_both_parts_learns_and_freezing_keeps_out_of_the_backbone():
    net = joint()
    with torch.no_grad():
        net.decoder.classify.weight.fill_(0.1)  # at zero the decoder's first gradient reaches its last layer alone
    net(torch.randn(2, 1, 8, 8, 8), freeze_backbone=True).square().mean().backward()
    assert [key for key, p in net.named_parameters() if (p.grad is None) != key.startswith("backbone.")] == []
