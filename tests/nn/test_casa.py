"""CASA against an attention written out token by token, and where its gradients flow."""

import math

import torch
from torch.nn import functional as F

from alice3d.nn.casa import CASA
from alice3d.nn.ema import cosine_momentum, target_of, update_ema
from alice3d.nn.layers import attention


def slow_attention(query, context, key_value, heads):
    d = query.shape[-1]
    out = torch.zeros_like(query)
    for b in range(len(query)):
        key_and_value = F.linear(context[b], key_value.weight, key_value.bias)
        keys, values = key_and_value[:, :d], key_and_value[:, d:]
        for h in range(heads):
            part = slice(h * d // heads, (h + 1) * d // heads)
            for i in range(query.shape[1]):
                scores = [float(query[b, i, part] @ key) / math.sqrt(d // heads) for key in keys[:, part]]
                weights = torch.tensor([math.exp(score) for score in scores])
                weights = weights / weights.sum()
                for weight, value in zip(weights, values[:, part], strict=True):
                    out[b, i, part] += weight * value
    return out


def parts():
    torch.manual_seed(0)
    casa = CASA(width=8, decoder_width=6, heads=2)
    return casa, torch.randn(2, 3, 8), torch.randn(2, 5, 6), torch.randn(2, 5, 8)


@torch.no_grad()
def test_both_branches_equal_the_loop():
    casa, visible, decoded, whole = parts()
    query = casa.query(visible)
    online = casa.zeta(slow_attention(query, casa.phi(casa.to_width(decoded)), casa.key_value, 2))
    target = casa.target_zeta(slow_attention(query, casa.psi(whole), casa.target_key_value, 2))
    assert torch.allclose(casa.online(visible, decoded), online, atol=1e-5)
    assert torch.allclose(casa.target(visible, whole), target, atol=1e-5)


def test_gradients_flow_through_the_query_and_never_into_the_target():
    casa, visible, decoded, whole = parts()
    visible.requires_grad_()
    with torch.no_grad():
        teacher = casa.target(visible, whole)
    (casa.online(visible, decoded) - teacher).square().sum().backward()
    assert visible.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in casa.query.parameters())
    for module in (casa.psi, casa.target_key_value, casa.target_zeta):
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())


def test_target_projections_follow_their_online_twins():
    casa, *_ = parts()
    before = casa.target_zeta.weight.clone()
    with torch.no_grad():
        casa.zeta.weight.add_(1.0)
    casa.after_step(0.9)
    assert torch.allclose(casa.target_zeta.weight, 0.9 * before + 0.1 * casa.zeta.weight)


def test_moving_average_equals_its_formula_and_starts_equal():
    torch.manual_seed(0)
    online = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    target = target_of(online)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), online.parameters(), strict=True))
    old = [p.clone() for p in target.parameters()]
    with torch.no_grad():
        for p in online.parameters():
            p.add_(torch.randn_like(p))
    online(torch.randn(8, 3))
    update_ema(target, online, 0.7)
    for before, now, new in zip(old, target.parameters(), online.parameters(), strict=True):
        assert torch.allclose(now, 0.7 * before + 0.3 * new, atol=1e-6)
    assert torch.equal(target[1].running_mean, online[1].running_mean)


def test_momentum_rises_along_a_half_cosine():
    assert cosine_momentum(0, 100, start=0.996) == 0.996
    assert math.isclose(cosine_momentum(50, 100, start=0.996), 0.998)
    assert cosine_momentum(100, 100, start=0.996) == 1.0
    assert cosine_momentum(500, 100, start=0.99, end=0.999) == 0.999


@torch.no_grad()
def test_attention_in_bfloat16_agrees_with_the_loop_whichever_kernel_computes_it():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8) for n in (4, 600, 600))
    for keys in (5, 600):  # the scores written out, and the fused kernel
        given = [part.to(torch.bfloat16) for part in (q, k[:, :, :keys], v[:, :, :keys])]
        scores = torch.einsum("bhnd,bhmd->bhnm", given[0].float(), given[1].float()) / math.sqrt(8)
        expected = scores.softmax(-1) @ given[2].float()
        assert torch.allclose(attention(*given).float(), expected, atol=0.03)
    assert torch.allclose(attention(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-6)
