"""Learning rates of the backbone."""

from __future__ import annotations

import torch

from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.segmentation import SegmentationNet
from alice3d.tasks.segmentation.objective import SegmentationTask
from alice3d.tasks.settings import SegmentationSettings


def build(pretrained: bool, **changes) -> SegmentationTask:
    torch.manual_seed(0)
    net = SegmentationNet(build_backbone("resunet", 1, {"widths": [4, 6, 8], "blocks": [1, 1]}), 3)
    return SegmentationTask(net, SegmentationSettings(**changes), total_steps=10, pretrained=pretrained)


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn(2, 1, 8, 8, 8, generator=generator),
        "labels": torch.randint(0, 3, (2, 8, 8, 8), generator=generator),
        "contoured": torch.ones(2, 3, dtype=torch.bool),
    }


def gradients(task: SegmentationTask, step: int) -> list[bool]:
    task.zero_grad()
    task(batch(), step)["loss"].backward()
    own = [p for name, p in task.net.backbone.named_parameters() if not name.startswith("class_token")]
    return [p.grad is not None for p in own]


def test_a_pretrained_backbone_stands_still_first():
    task = build(True, head_first=0.3)
    assert not any(gradients(task, 2))
    assert all(gradients(task, 3))


def test_from_scratch_all_learn_at_once():
    task = build(False, head_first=0.3)
    assert all(gradients(task, 0))
    assert {group.get("lr_scale", 1.0) for group in task.param_groups()} == {1.0}


def test_rates_cover_every_weight_once():
    task = build(True, backbone_lr_scale=0.2)
    head, backbone = task.param_groups()
    assert backbone["lr_scale"] == 0.2
    listed = [id(p) for group in (head, backbone) for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in task.net.parameters())


def test_a_rate_of_zero_freezes_the_backbone():
    task = build(True, backbone_lr_scale=0.0)
    assert len(task.param_groups()) == 1
    assert not any(gradients(task, 9))


def test_the_average_is_what_is_written():
    task = build(False, ema_decay=0.5)
    with torch.no_grad():
        for p in task.net.parameters():
            p.add_(1.0)
    before = [p.clone() for p in task.averaged.parameters()]
    task.after_step(1000)
    for old, new, net in zip(before, task.trained().parameters(), task.net.parameters(), strict=True):
        torch.testing.assert_close(new, (old + net) / 2)
    assert build(False, ema_decay=0.0).trained() is not None
    last = build(False, ema_decay=0.0)
    assert last.trained() is last.net
