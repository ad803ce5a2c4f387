"""Alice on one to four pairs at a time: its targets, its gradient in parts, and the state that goes with its queue."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from test_methods import alice, batch_of
from torch import Tensor

from alice3d.losses.distill import sinkhorn, standardise
from alice3d.methods.alice import Alice
from alice3d.methods.alice_settings import AliceConfig

WIDER = {"prototypes": 64, "hidden": 64, "bottleneck": 32, "dense_weight": 0.0}


def rows_of(batch: dict[str, Tensor], first: int, count: int) -> dict[str, Tensor]:
    return {name: value[first : first + count] for name, value in batch.items()}


def overlap(method: Alice, batch: dict[str, Tensor], pairs: int) -> float:
    """What the targets of the two crops of a pair share, in passes of so many pairs, after the first eight pairs."""
    shared = []
    with torch.no_grad():
        for first in range(0, len(batch["q"]), pairs):
            part = rows_of(batch, first, pairs)
            classes = method.target_backbone.tokens(torch.cat([part["k_target"], part["q_target"]]))[0]
            targets, _, enough = method._targets("class", classes, 0)
            if first >= 8:
                assert enough
                shared.append(torch.minimum(targets[:pairs], targets[pairs:]).sum(dim=1))
    return float(torch.cat(shared).mean())


def test_matched_crops_share_their_targets_however_few_are_seen_at_a_time() -> None:
    batch = batch_of(24)
    many = overlap(alice(**WIDER), batch, 8)
    alone = alice(**WIDER, queue=0)
    assert overlap(alone, batch, 1) < 0.3 * many
    for pairs in (1, 2):
        assert overlap(alice(**WIDER), batch, pairs) > 0.8 * many


@pytest.mark.parametrize("kind", ["class", "patch"])
def test_targets_of_a_batch_in_parts_are_nearly_those_of_the_whole(kind: str) -> None:
    """What a crop's target has in common whether four pairs are seen at once, or one by one after eight others."""
    tokens = torch.randn(2, 12, 3 if kind == "patch" else 1, 12, generator=torch.Generator().manual_seed(0))

    def targets(parts: int, **options: Any) -> Tensor:
        method, found = alice(**WIDER, **options), []
        for first, count in [(one, 1) for one in range(8)] + [
            (8 + 4 // parts * one, 4 // parts) for one in range(parts)
        ]:
            own = method._targets(kind, tokens[:, first : first + count].flatten(0, 1), 0)[0]
            found.append(own.unflatten(0, (2, count, -1)))
        return torch.cat(found[8:], dim=1)

    def alike(one: Tensor, other: Tensor) -> float:
        return float(torch.minimum(one, other).sum(dim=-1).mean())

    at_once = targets(1, queue=0)
    mended, before = alike(targets(4), at_once), alike(targets(4, queue=0), at_once)
    assert mended > before + 0.1, (mended, before)


def test_four_pairs_give_the_same_bits_with_and_without_a_queue() -> None:
    with_queue, without = alice(), alice(queue=0)
    for step in range(2):
        one, other = (method.forward(batch_of(4, seed=step), step) for method in (with_queue, without))
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert with_queue.state_dict().keys() == without.state_dict().keys()


def test_class_and_patch_losses_wait_for_four_pairs() -> None:
    method = alice(**WIDER)
    losses = [method.forward(batch_of(1, seed=step), step) for step in range(5)]
    for name in ("class", "patch"):
        assert [bool(out[name]) for out in losses] == [False, False, False, True, True]
    losses[0]["loss"].backward()
    assert all(p.grad is None or not p.grad.any() for p in method.class_head.parameters())


def test_targets_equal_those_of_the_queue_and_the_pass_together() -> None:
    method = alice(**WIDER)
    tokens = torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
    for pair in range(5):
        method._targets("class", tokens[[pair, pair + 6]], 0)
    targets, watched, _ = method._targets("class", tokens[[5, 11]], 0)
    low = method.config.teacher_temperature[0]
    all_six = sinkhorn(standardise(method.target_class_head(tokens), method.config.spread), low)
    torch.testing.assert_close(targets, all_six[[5, 11]], rtol=1e-4, atol=1e-6)
    assert len(watched) == 12


def test_a_run_that_goes_on_has_the_same_bits() -> None:
    whole, later = alice(**WIDER), alice(**WIDER)
    for step in range(3):
        whole.forward(batch_of(1, seed=step), step)
    later.load_state_dict(whole.state_dict())
    one, other = (method.forward(batch_of(1, seed=3), 3) for method in (whole, later))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(one["class_target_entropy"], other["class_target_entropy"])


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        ({}, 1),
        ({"queue": 0}, 4),
        ({"queue": 0, "class_weight": 0.0, "patch_weight": 0.0}, 1),
        ({"queue": 0, "balance": "centre", "spread": 0.0}, 1),
        ({"queue": 0, "balance": "centre"}, 4),
    ],
)
def test_pairs_that_are_needed(options: dict[str, Any], needed: int) -> None:
    assert alice(**options).fewest_pairs_together == needed


def test_a_queue_of_too_few_pairs_is_refused() -> None:
    with pytest.raises(ValidationError, match="queue: 3 pairs are too few"):
        AliceConfig(queue=3)
