"""How a pre-trained backbone is fine-tuned: when, which weights, and at which learning rate."""

from __future__ import annotations

import pytest
import torch

from alice3d.engine.optim import build_optimiser, set_rates
from alice3d.engine.settings import LoopSettings
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.segmentation import SegmentationNet
from alice3d.tasks.adaptation import backbone_groups, depths, freeze_norms, frozen_steps
from alice3d.tasks.segmentation.objective import SegmentationTask
from alice3d.tasks.settings import BackboneSettings, SegmentationSettings

RESUNET = ("resunet", 1, {"widths": [4, 6, 8], "blocks": [1, 1]})
VIT = ("vit", 1, {"patch": 6, "width": 24, "depth": 3, "heads": 2})


def task(pretrained: bool = True, **changes) -> SegmentationTask:
    torch.manual_seed(0)
    net = SegmentationNet(build_backbone(*RESUNET), 3)
    return SegmentationTask(net, SegmentationSettings(**changes), total_steps=10, pretrained=pretrained)


def test_the_backbone_is_frozen_for_a_fraction_or_a_number_of_steps():
    assert frozen_steps(BackboneSettings(), 400) == 40
    assert frozen_steps(BackboneSettings(head_first=0.5), 400) == 200
    assert frozen_steps(BackboneSettings(warm_head=7, head_first=0.5), 400) == 7
    assert frozen_steps(BackboneSettings(warm_head=0), 400) == 0
    assert frozen_steps(BackboneSettings(warm_head=7, backbone_lr_scale=0), 400) == 400


def test_after_a_warm_head_the_rate_of_the_backbone_rises_from_zero():
    def rates(**changes) -> list[float]:
        settings = LoopSettings(steps=10, warmup=0.3)
        optimiser = build_optimiser(task(**changes).param_groups(), settings)
        found = []
        for step in range(10):
            set_rates(optimiser, step, settings)
            found.append(optimiser.param_groups[-1]["lr"])
        return found

    warm = rates(warm_head=4)
    assert warm[:4] == [0.0] * 4
    assert 0 < warm[4] < warm[5]
    assert all(rate > 0 for rate in rates())
    assert rates(warm_head=99) == [0.0] * 10


@pytest.mark.parametrize("described", [RESUNET, VIT], ids=["resunet", "vit"])
def test_layer_decay_covers_every_weight_once_and_grows_with_depth(described):
    backbone = build_backbone(*described)
    groups = backbone_groups(backbone, BackboneSettings(backbone_lr_scale=0.4, layer_decay=0.5), 10)
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in backbone.parameters())
    scales = [group["lr_scale"] for group in groups]
    assert scales == sorted(scales)
    assert scales[-1] == 0.4
    assert scales[0] == pytest.approx(0.4 * 0.5 ** max(depths(backbone).values()))


def test_depths_follow_the_volume_through_the_net():
    resunet = depths(build_backbone(*RESUNET))
    assert (resunet["stem.weight"], resunet["down.0.0.weight"], resunet["stages.1.0.conv1.weight"]) == (0, 1, 2)
    assert resunet["class_token.1.weight"] == 2
    vit = depths(build_backbone(*VIT))
    assert (vit["class_token"], vit["embed.weight"], vit["blocks.0.qkv.weight"], vit["norm.weight"]) == (0, 0, 1, 3)


def test_from_scratch_no_control_applies():
    plain, changed = task(False).param_groups(), task(False, layer_decay=0.5, freeze_norms=True).param_groups()
    assert [len(group["params"]) for group in plain] == [len(group["params"]) for group in changed]
    assert [group.get("lr_scale", 1.0) for group in changed] == [1.0, 1.0]


def test_frozen_norms_stay_out_of_learning_and_the_rest_does_not():
    learning = task(freeze_norms=True)
    still = {name for name, p in learning.net.backbone.named_parameters() if not p.requires_grad}
    assert "down.0.1.weight" in still
    assert "stages.0.0.norm1.bias" in still
    assert not any(part in name for name in still for part in ("conv", "stem", "shortcut"))
    listed = {id(p) for group in learning.param_groups() for p in group["params"]}
    assert not listed & {id(p) for p in learning.net.backbone.parameters() if not p.requires_grad}
    assert all(p.requires_grad for p in learning.net.decoder.parameters())


def test_frozen_norms_of_a_transformer():
    backbone = build_backbone(*VIT)
    freeze_norms(backbone)
    assert {name for name, p in backbone.named_parameters() if not p.requires_grad} == {
        name for name, _ in backbone.named_parameters() if "norm" in name
    }


def test_a_merging_learns_at_the_rate_of_the_scale_it_leads_to() -> None:
    net = build_backbone("swin", 1, {"width": 4, "depths": [1, 1], "heads": [1, 2]})
    level = depths(net)
    names = (
        "mask_token",
        "embed.weight",
        "stages.0.0.attention.bias",
        "merge.1.reduce.weight",
        "stages.1.0.norm1.bias",
    )
    assert [level[name] for name in (*names, "norm.weight", "class_token.weight")] == [0, 0, 1, 2, 2, 2, 2]
