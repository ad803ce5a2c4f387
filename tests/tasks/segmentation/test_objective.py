"""Which cases are drawn, what learns at which rate, and what is one piece."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from alice3d.errors import UserError
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.segmentation import SegmentationNet
from alice3d.tasks.cases import draw_cases, labelled_cases
from alice3d.tasks.segmentation.objective import SegmentationTask, single_pieces
from alice3d.tasks.settings import SegmentationSettings


@dataclass(frozen=True)
class Labelled:
    """What the functions ask of a case."""

    id: str
    structures: tuple[int, ...]
    labelled: bool = True
    split: str = "train"


@dataclass
class Shelf:
    """What the functions ask of a store."""

    held: list[Labelled]
    splits: list[str] = field(default_factory=lambda: ["train"])
    labels: dict[str, Any] = field(default_factory=dict)

    def cases(self, split: str) -> list[Labelled]:
        return [case for case in self.held if case.split == split]

    def label(self, id: str) -> Any:
        return self.labels[id]


CASES = [Labelled(f"case_{n:02}", (1, 2, 3) if n == 7 else (1, 2)) for n in range(12)]


@pytest.mark.parametrize("seed", range(5))
def test_draws_are_nested(seed):
    draws = [draw_cases(CASES, count, seed) for count in range(1, 13)]
    for small, large in itertools.pairwise(draws):
        assert large[: len(small)] == small
    assert sorted(case.id for case in draws[-1]) == [case.id for case in CASES]


def test_a_small_draw_lacks_no_structure():
    for seed in range(10):
        assert CASES[7] in draw_cases(CASES, 2, seed)


def test_seeds_differ_and_repeat():
    assert draw_cases(CASES, 4, 1) == draw_cases(CASES, 4, 1)
    assert len({tuple(case.id for case in draw_cases(CASES, 4, seed)) for seed in range(8)}) > 4


def test_too_many_labels():
    with pytest.raises(UserError, match="13 labelled cases are asked for, the training split has 12"):
        draw_cases(CASES, 13, 0)


def test_all_labels():
    assert draw_cases(CASES, None, 0) == CASES


def test_labelled_cases():
    shelf = Shelf([*CASES, Labelled("empty", ()), Labelled("none", (), labelled=False)])
    assert labelled_cases(shelf, "train") == CASES
    with pytest.raises(UserError, match="no split 'tset'; it has train"):
        labelled_cases(shelf, "tset")
    with pytest.raises(UserError, match="no case of split 'train' has labels"):
        labelled_cases(Shelf([Labelled("none", (), labelled=False)]), "train")


def test_single_pieces():
    labels = np.zeros((9, 5, 5), np.uint8)
    labels[0:2], labels[3, :2], labels[8] = 1, 2, 2
    assert single_pieces(Shelf([], labels={"a": labels}), [Labelled("a", (1, 2))], (0, 1, 2)) == [1]


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
    task = build(True, backbone_rate=0.2)
    head, backbone = task.param_groups()
    assert backbone["lr_scale"] == 0.2
    listed = [id(p) for group in (head, backbone) for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in task.net.parameters())


def test_a_rate_of_zero_freezes_the_backbone():
    task = build(True, backbone_rate=0.0)
    assert len(task.param_groups()) == 1
    assert not any(gradients(task, 9))


def test_the_average_is_what_is_written():
    task = build(False, average=0.5)
    with torch.no_grad():
        for p in task.net.parameters():
            p.add_(1.0)
    before = [p.clone() for p in task.averaged.parameters()]
    task.after_step(1000)
    for old, new, net in zip(before, task.trained().parameters(), task.net.parameters(), strict=True):
        torch.testing.assert_close(new, (old + net) / 2)
    assert build(False, average=0.0).trained() is not None
    last = build(False, average=0.0)
    assert last.trained() is last.net
