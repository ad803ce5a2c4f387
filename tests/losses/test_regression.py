"""Regression of vectors and of channel products: limits, gradients, and blindness to the order of places."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from alice3d.losses.regression import cosine_regression, gram_regression


@pytest.mark.parametrize(("other", "expected"), [([2.0, 0], 0), ([0, 3.0], 2), ([-1.0, 0], 4)])
def test_limits_of_cosine_regression(other: list[float], expected: float) -> None:
    assert float(cosine_regression(torch.tensor([[1.0, 0]]), torch.tensor([other]))) == pytest.approx(expected)


def test_cosine_regression_is_the_squared_distance_of_unit_vectors() -> None:
    one, two = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0))
    expected = (F.normalize(one, dim=-1) - F.normalize(two, dim=-1)).square().sum(dim=-1).mean()
    torch.testing.assert_close(cosine_regression(one, two), expected)


def test_only_the_online_side_takes_gradient() -> None:
    for loss in (cosine_regression, gram_regression):
        online, target = (torch.randn(2, 4, 5, requires_grad=True) for _ in range(2))
        loss(online, target).backward()
        assert online.grad is not None
        assert target.grad is None


def test_gram_regression_is_blind_to_the_order_of_places() -> None:
    rows = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    shuffled = rows[:, torch.randperm(8, generator=torch.Generator().manual_seed(1))]
    assert float(gram_regression(rows, shuffled)) == pytest.approx(0, abs=1e-10)
    assert float(cosine_regression(rows, shuffled)) > 0.5
    assert float(gram_regression(rows, rows[:, :1].expand_as(rows))) > 0.1


def test_gram_regression_is_the_sum_written_out() -> None:
    one, two = (
        F.normalize(rows, dim=-1) for rows in torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(2))
    )
    total = 0.0
    for b in range(3):
        for c in range(2):
            for d in range(2):
                total += float((one[b, :, c] * one[b, :, d]).sum() - (two[b, :, c] * two[b, :, d]).sum()) ** 2
    assert float(gram_regression(one, two)) == pytest.approx(total / 12, rel=1e-5)
