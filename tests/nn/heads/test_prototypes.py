"""Projection heads: cosines with prototypes, in full precision whatever the rest computes in."""

from __future__ import annotations

import torch

from alice3d.losses.distill import Centring
from alice3d.nn.heads.prototypes import PrototypeHead


def head() -> PrototypeHead:
    torch.manual_seed(0)
    return PrototypeHead(8, hidden=16, bottleneck=4, prototypes=6)


def test_logits_are_cosines_written_out() -> None:
    net, tokens = head(), torch.randn(2, 3, 8)
    with torch.no_grad():
        vectors, prototypes = net.mlp(tokens), net.prototypes.weight
        for b in range(2):
            for i in range(3):
                for k in range(6):
                    v, p = vectors[b, i], prototypes[k]
                    torch.testing.assert_close(net(tokens)[b, i, k], (v @ p) / (v.norm() * p.norm()))


def test_prototypes_keep_their_length_and_learn_their_direction() -> None:
    net, tokens = head(), torch.randn(5, 8)
    net(tokens)[:, 0].sum().backward()
    magnitude, direction = (getattr(net.prototypes.parametrizations.weight, f"original{i}") for i in (0, 1))
    assert magnitude.grad is None
    assert direction.grad.abs().sum() > 0


def test_autocast_leaves_the_cosines_in_float32() -> None:
    net, tokens = head(), torch.randn(7, 8)
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(tokens)
        probability = Centring(6)(logits, 0.05)
        hidden = net.mlp(tokens)
    assert logits.dtype == probability.dtype == torch.float32
    unit = torch.nn.functional.normalize(hidden.float(), dim=-1)
    torch.testing.assert_close(logits, unit @ net.prototypes.weight.T)
