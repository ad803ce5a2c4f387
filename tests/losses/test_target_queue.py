"""The queue of past teacher tokens: what it gives, what it keeps, and its state."""

import pytest
import torch

from alice3d.losses import target_queue
from alice3d.losses.target_queue import TargetQueue, by_crop, by_pair


def tokens(pairs, rows=3, width=5, seed=0):
    """Rows of the first crops of all pairs, then of the second ones."""
    return torch.randn(2 * pairs * rows, width, generator=torch.Generator().manual_seed(seed))


def test_blocks_of_pairs_hold_both_crops_and_lead_back():
    rows = tokens(4)
    blocks = by_pair(rows, 4)
    for pair in range(4):
        both = torch.cat([rows[pair * 3 : pair * 3 + 3], rows[12 + pair * 3 : 12 + pair * 3 + 3]])
        assert torch.equal(blocks[pair], both)
    assert torch.equal(by_crop(blocks), rows)


def test_the_newest_pairs_are_kept_oldest_first():
    queue, passes = TargetQueue(5), [tokens(2, seed=seed) for seed in range(4)]
    blocks = [by_pair(one, 2) for one in passes]
    for number, one in enumerate(passes):
        everything, own = queue.put(one, 2)
        expected = torch.cat(blocks[: number + 1])[-7:]  # five kept, two new
        assert torch.equal(everything, expected)
        assert torch.equal(everything[own], blocks[number])
        assert torch.equal(queue.tokens, expected[-5:])


def test_state_goes_with_the_queue_and_may_lack_it():
    full, empty = TargetQueue(4), TargetQueue(4)
    assert not empty.state_dict()
    full.put(tokens(2), 2)
    other = TargetQueue(4)
    other.load_state_dict(full.state_dict())
    assert torch.equal(other.tokens, full.tokens)
    other.load_state_dict(empty.state_dict())  # strict
    assert other.tokens is None


def test_two_processes_hold_what_one_holds(monkeypatch: pytest.MonkeyPatch):
    whole = tokens(2)
    alone = TargetQueue(4)
    alone.put(whole, 2)
    blocks = by_pair(whole, 2)
    halves = [by_crop(blocks[one : one + 1]) for one in range(2)]
    for number, half in enumerate(halves):
        monkeypatch.setattr(target_queue, "all_gather", lambda own: torch.cat([by_pair(each, 1) for each in halves]))
        monkeypatch.setattr(target_queue, "rank", lambda number=number: number)
        queue = TargetQueue(4)
        everything, own = queue.put(half, 1)
        assert torch.equal(queue.tokens, alone.tokens)
        assert torch.equal(everything[own], by_pair(half, 1))
