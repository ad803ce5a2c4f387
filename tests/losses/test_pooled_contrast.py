"""NT-Xent and supervised contrast against sums written out, and their limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alice3d.losses.pooled_contrast import nt_xent, supervised_contrast


def written_out_nt_xent(first: Tensor, second: Tensor, temperature: float, excluded: Tensor | None = None) -> float:
    rows = [F.normalize(row, dim=0) for row in [*first, *second]]
    n, total = len(first), 0.0
    for i in range(2 * n):
        twin = (i + n) % (2 * n)
        others = [j for j in range(2 * n) if j != i and (j == twin or excluded is None or not excluded[i, j])]
        below = sum(math.exp(float(rows[i] @ rows[j]) / temperature) for j in others)
        total -= float(rows[i] @ rows[twin]) / temperature - math.log(below)
    return total / (2 * n)


def test_nt_xent_is_the_sum_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 7, generator=generator)
    excluded = torch.rand(10, 10, generator=generator) < 0.4
    for left_out in (None, excluded):
        expected = written_out_nt_xent(first, second, 0.3, left_out)
        assert float(nt_xent(first, second, 0.3, excluded=left_out)) == pytest.approx(expected, rel=1e-5)
    assert float(nt_xent(first, second, 0.3)) == pytest.approx(float(nt_xent(second, first, 0.3)), rel=1e-6)
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=generator))[0]
    turned = nt_xent(first @ rotation, second @ rotation, 0.3)
    assert float(turned) == pytest.approx(float(nt_xent(first, second, 0.3)), rel=1e-5)


def test_limits_of_nt_xent() -> None:
    n, tau = 4, 0.5
    equal = torch.ones(n, 6)
    assert float(nt_xent(equal, equal, tau)) == pytest.approx(math.log(2 * n - 1), abs=1e-6)
    apart = torch.eye(n, 6)
    assert float(nt_xent(apart, apart, tau)) == pytest.approx(math.log(1 + (2 * n - 2) * math.exp(-1 / tau)), abs=1e-6)
    opposite = torch.tensor([[1.0, 0], [-1.0, 0]])
    assert float(nt_xent(opposite, opposite, tau)) == pytest.approx(math.log(1 + 2 * math.exp(-2 / tau)), abs=1e-6)
    everything = torch.ones(2 * n, 2 * n, dtype=torch.bool)
    assert float(nt_xent(torch.randn(n, 6), torch.randn(n, 6), tau, excluded=everything)) == pytest.approx(0, abs=1e-6)


def written_out_supervised(views: Tensor, labels: Tensor, temperature: float) -> float:
    rows = [F.normalize(row, dim=0) for view in views for row in view]
    of = [int(label) for _ in views for label in labels]
    total = 0.0
    for i in range(len(rows)):
        below = sum(math.exp(float(rows[i] @ rows[a]) / temperature) for a in range(len(rows)) if a != i)
        same = [j for j in range(len(rows)) if j != i and of[j] == of[i]]
        total -= sum(float(rows[i] @ rows[j]) / temperature - math.log(below) for j in same) / len(same)
    return total / len(rows)


def test_supervised_contrast_is_the_sum_written_out() -> None:
    views = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 0, 1, 2, 1, 0])
    expected = written_out_supervised(views, labels, 0.2)
    assert float(supervised_contrast(views, labels, 0.2)) == pytest.approx(expected, rel=1e-5)


def test_limits_of_supervised_contrast() -> None:
    n, tau = 6, 0.5
    rows = torch.ones(2, n, 4)
    for labels in (torch.zeros(n, dtype=torch.long), torch.arange(n)):
        assert float(supervised_contrast(rows, labels, tau)) == pytest.approx(math.log(2 * n - 1), abs=1e-5)
    halves = torch.tensor([0, 0, 0, 1, 1, 1])
    opposite = torch.where(halves[:, None] == 0, 1.0, -1.0).expand(n, 4).expand(2, n, 4)
    expected = math.log((n - 1) + n * math.exp(-2 / tau))
    assert float(supervised_contrast(opposite, halves, tau)) == pytest.approx(expected, abs=1e-5)
