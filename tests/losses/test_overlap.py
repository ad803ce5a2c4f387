"""VoCo's losses against loops over scan, target and base, and their limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from alice3d.losses.overlap import EPSILON, base_repulsion, overlap_loss, overlap_loss_as_printed, similarities


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Similarities and overlaps of 2 scans, 3 targets, 4 bases; some overlaps are 0, and a target's sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    overlap = torch.rand(2, 3, 4, generator=generator)
    overlap[:, :, 0] = 0
    return torch.rand(2, 3, 4, generator=generator), overlap / overlap.sum(dim=-1, keepdim=True)


@pytest.mark.parametrize("negatives", ["square", "log"])
def test_overlap_loss_is_the_loops_written_out(negatives: str) -> None:
    similarity, overlap = drawn()
    above = below = away = 0.0
    count = 0
    for s, y in zip(similarity.flatten().tolist(), overlap.flatten().tolist(), strict=True):
        if y > 0:
            above += y * -math.log(1 - abs(y - s))
            below += y
        else:
            away += s * s if negatives == "square" else -math.log(1 - s)
            count += 1
    positive, negative = overlap_loss(similarity, overlap, negatives=negatives)  # type: ignore[arg-type]
    assert float(positive) == pytest.approx(above / below, rel=1e-5)
    assert float(negative) == pytest.approx(away / count, rel=1e-5)
    apart = (overlap - similarity).abs().flatten().tolist()
    printed = [-math.log(1 - each) for each in apart]
    assert float(overlap_loss_as_printed(similarity, overlap)) == pytest.approx(sum(printed) / len(printed), rel=1e-5)


def test_limits_of_overlap_loss() -> None:
    _, overlap = drawn()
    assert [float(loss) for loss in overlap_loss(overlap, overlap)] == [0, 0]
    quarter, none = torch.full((1, 1, 4), 0.25), torch.zeros(1, 1, 4)
    positive, negative = overlap_loss(none, quarter)
    assert float(positive) == pytest.approx(math.log(4 / 3), abs=1e-5)
    assert float(negative) == 0
    one_hot = F.one_hot(torch.tensor([[2]]), 4).float()
    assert float(overlap_loss(none, one_hot)[0]) == pytest.approx(-math.log(EPSILON), abs=1e-3)
    full = torch.ones(1, 1, 4)
    assert float(overlap_loss(full, one_hot)[1]) == 1
    assert float(overlap_loss(full, one_hot, negatives="log")[1]) == pytest.approx(-math.log(EPSILON), abs=1e-3)


def test_base_repulsion() -> None:
    assert float(base_repulsion(torch.eye(4)[None])) == 0
    assert float(base_repulsion(torch.ones(1, 4, 3))) == pytest.approx(1)
    assert float(base_repulsion(torch.tensor([[[1.0, 0], [-1.0, 0]]]))) == 0
    bases = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    total = 0.0
    for scan in bases.detach():
        for i in range(3):
            for j in range(i + 1, 3):
                total += max(float(F.cosine_similarity(scan[i], scan[j], dim=0)), 0) ** 2
    loss = base_repulsion(bases)
    assert float(loss.detach()) == pytest.approx(total / 6, rel=1e-5)
    loss.backward()
    assert bases.grad is not None
    assert bool((bases.grad.abs().sum(dim=-1) > 0).any(dim=0).all())  # every base takes some


def test_similarities_are_positive_cosines() -> None:
    targets, bases = torch.randn(2, 2, 3, 5, generator=torch.Generator().manual_seed(0))
    found = similarities(targets, bases)
    for b in range(2):
        for t in range(3):
            for k in range(3):
                cosine = float(F.cosine_similarity(targets[b, t], bases[b, k], dim=0))
                assert float(found[b, t, k]) == pytest.approx(max(cosine, 0), abs=1e-6)
