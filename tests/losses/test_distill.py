"""Self-distillation against loops, and what balances it."""

import math

import pytest
import torch

from alice3d.losses.distill import (
    Centring,
    distillation_loss,
    entropy,
    koleo,
    masked_distillation_loss,
    sinkhorn,
    standardise,
    warmed,
)


def logits(n, k, seed=0):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def test_loss_equals_the_loop():
    student, teacher = logits(5, 7), logits(5, 7, seed=1).softmax(-1)
    total = 0.0
    for row, probability in zip(student / 0.1, teacher, strict=True):
        log_sum = math.log(sum(math.exp(float(value)) for value in row))
        total += -sum(float(p) * (float(value) - log_sum) for p, value in zip(probability, row, strict=True))
    assert math.isclose(float(distillation_loss(student, teacher, student_temperature=0.1)), total / 5, rel_tol=1e-5)


def test_nothing_flows_into_the_teacher():
    student, teacher = logits(3, 4).requires_grad_(), logits(3, 4, seed=1).requires_grad_()
    distillation_loss(student, teacher.softmax(-1), student_temperature=0.1).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_centring_subtracts_the_running_mean_and_follows_it():
    module, batch = Centring(4, momentum=0.9), logits(6, 4) + torch.tensor([5.0, 0, 0, 0])
    first = module(batch, 0.5)
    assert torch.allclose(first, (batch / 0.5).softmax(-1))  # the centre was zero
    assert torch.allclose(module.centre, 0.1 * batch.mean(0))
    second = module(batch, 0.5)
    assert torch.allclose(second, ((batch - 0.1 * batch.mean(0)) / 0.5).softmax(-1), atol=1e-6)


def test_sinkhorn_equals_the_loop_and_uses_prototypes_equally():
    scores = logits(12, 4)
    weight = (scores.double() / 0.07 - (scores.double() / 0.07).max()).exp()
    for _ in range(3):
        for j in range(4):
            weight[:, j] = weight[:, j] / weight[:, j].sum() * (12 / 4)
        for i in range(12):
            weight[i] = weight[i] / weight[i].sum()
    fast = sinkhorn(scores, 0.07)
    assert torch.allclose(fast.double(), weight, atol=1e-5)
    assert torch.allclose(fast.sum(1), torch.ones(12), atol=1e-5)
    assert torch.allclose(sinkhorn(scores, 0.5, iterations=50).sum(0), torch.full((4,), 3.0), atol=1e-3)


def test_sinkhorn_spreads_what_a_softmax_would_collapse():
    collapsed = torch.zeros(8, 4)
    collapsed[:, 0] = 1.0  # every row likes prototype 0 best
    assert entropy((collapsed / 0.05).softmax(-1).mean(0, keepdim=True)) < 0.1
    assert entropy(sinkhorn(collapsed, 0.05).mean(0, keepdim=True)) > 1.3


def test_koleo_equals_the_loop_and_falls_as_points_spread():
    points = logits(6, 3)
    unit = torch.nn.functional.normalize(points, dim=-1)
    slow = 0.0
    for i in range(6):
        slow -= math.log(min(float((unit[i] - unit[j]).norm()) for j in range(6) if j != i) + 1e-6) / 6
    assert math.isclose(float(koleo(points)), slow, rel_tol=1e-4)
    assert koleo(torch.eye(3)) < koleo(torch.eye(3) + 5)


def test_standardised_logits_have_the_spread_and_keep_their_order():
    torch.manual_seed(0)
    logits = 0.9 + 0.001 * torch.randn(50, 6, dtype=torch.float64)
    out = standardise(logits, 0.15)
    torch.testing.assert_close(out.mean(dim=0), torch.zeros(6, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        out.std(dim=0, unbiased=False), torch.full((6,), 0.15, dtype=torch.float64), atol=2e-3, rtol=0
    )
    assert (out.argsort(dim=0) == logits.argsort(dim=0)).all()


def test_nearly_equal_logits_give_uniform_targets_unless_standardised():
    torch.manual_seed(0)
    logits = 0.9 + 0.001 * torch.randn(200, 64)
    uniform = torch.tensor(64.0).log()
    assert entropy(sinkhorn(logits, 0.05)) > uniform - 0.01
    assert entropy(sinkhorn(standardise(logits, 0.15), 0.05)) < uniform - 1


def test_masked_distillation_counts_each_crop_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.zeros(3, 10, dtype=torch.bool)
    hidden[0, 3], hidden[1, :9] = True, True  # 1 and 9 hidden patches, and a crop without
    student = torch.randn(10, 6, generator=generator)
    teacher = torch.randn(10, 6, generator=generator).softmax(dim=-1)
    rows = [-float((t * (s / 0.1).log_softmax(dim=-1)).sum()) for s, t in zip(student, teacher, strict=True)]
    expected = (rows[0] + sum(rows[1:]) / 9) / 3
    found = masked_distillation_loss(student, teacher, hidden, student_temperature=0.1)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_limits_of_masked_distillation() -> None:
    hidden = torch.ones(2, 3, dtype=torch.bool)
    teacher = logits(6, 8).softmax(dim=-1)
    uniform = masked_distillation_loss(torch.zeros(6, 8), teacher, hidden, student_temperature=0.1)
    assert float(uniform) == pytest.approx(math.log(8), rel=1e-5)
    same = masked_distillation_loss(teacher.log() * 0.1, teacher, hidden, student_temperature=0.1)
    entropy_of = -(teacher * teacher.log()).sum(dim=-1).mean()
    assert float(same) == pytest.approx(float(entropy_of), rel=1e-5)
    one_hot = torch.nn.functional.one_hot(torch.zeros(6, dtype=torch.long), 8).float()
    margin = masked_distillation_loss(one_hot * 0.5, one_hot, hidden, student_temperature=0.1)
    assert float(margin) == pytest.approx(math.log(1 + 7 * math.exp(-5)), rel=1e-4)


def test_warmed_rises_and_stays() -> None:
    values = [warmed(0.04, 0.07, share=0.5, step=step, total_steps=10) for step in (0, 2, 5, 9)]
    assert values == pytest.approx([0.04, 0.052, 0.07, 0.07])
