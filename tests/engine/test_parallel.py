"""Shares of a batch among processes, and one training a call."""

from __future__ import annotations

import pytest
import torch

from alice3d.engine import parallel
from alice3d.errors import UserError


def test_shares_cover_the_batch_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = list(range(12))
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        shares.append(parallel.my_share(numbers, 3))
    assert shares == [[[0, 1], [4, 5], [8, 9]], [[2, 3], [6, 7], [10, 11]]]
    with pytest.raises(UserError, match=r"--batch: 10 samples cannot be split equally over 2 processes in 3 parts"):
        parallel.my_share(numbers[:10], 3)


def test_a_second_training_in_one_call_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(parallel, "_parted", True)
    with pytest.raises(UserError, match="trains once"):
        parallel.start(torch.device("cpu"))
