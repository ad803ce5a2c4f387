"""Rates and decay of each group over a run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from alice3d.engine.optim import build_optimiser, learning_rate, set_rates
from alice3d.engine.settings import LoopSettings
from alice3d.errors import UserError
from alice3d.methods.alice import Alice, AliceConfig
from alice3d.nn.backbones.registry import build_backbone

LOOP = LoopSettings(steps=100, warmup=0.1, learning_rate=1.0, final_rate=0.0, weight_decay=0.04, weight_decay_end=0.4)


def followed(groups: list[dict[str, Any]], key: str) -> list[list[float]]:
    """A key of each group of the optimiser at every step."""
    optimiser = build_optimiser(groups, LOOP)
    seen: list[list[float]] = [[] for _ in optimiser.param_groups]
    for step in range(LOOP.steps):
        set_rates(optimiser, step, LOOP)
        for values, group in zip(seen, optimiser.param_groups, strict=True):
            values.append(group[key])
    return seen


def test_a_group_that_starts_later_stands_still_then_warms_up() -> None:
    early, late = followed(
        [
            {"params": [nn.Parameter(torch.zeros(2, 2))]},
            {"params": [nn.Parameter(torch.zeros(2, 2))], "starts_at": 0.5},
        ],
        "lr",
    )
    assert late[:50] == [0.0] * 50
    assert late[50:55] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert early == [learning_rate(step, LOOP) for step in range(100)]
    assert late[-1] == pytest.approx(0.0, abs=2e-3)


def test_a_standing_group_keeps_its_weights() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimiser = build_optimiser([{"params": [weight], "starts_at": 0.5}], LOOP)
    for step in range(50):
        set_rates(optimiser, step, LOOP)
        weight.grad = torch.ones(2, 2)
        optimiser.step()
    assert torch.equal(weight.detach(), torch.ones(2, 2))


def test_decay_rises_along_a_cosine_on_matrices_that_follow_the_loop() -> None:
    weights = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2, 2))]
    matrix, vector, own = followed(
        [{"params": weights[:2]}, {"params": weights[2:], "weight_decay": 0.1}], "weight_decay"
    )
    assert matrix[0] == pytest.approx(0.04)
    assert matrix[-1] == pytest.approx(0.4)
    assert matrix == sorted(matrix)
    assert set(vector) == {0.0}
    assert set(own) == {0.1}


@pytest.mark.parametrize("name", ["resunet", "vit", "swin"])
def test_tokens_and_tables_of_offsets_do_not_decay(name: str) -> None:
    options = {"vit": {"registers": 3, "width": 24, "depth": 1, "heads": 2}}.get(name, {})
    method = Alice(build_backbone(name, 1, options), AliceConfig(), crop=16, total_steps=10)
    groups = build_optimiser(method.param_groups(), LOOP, method.named_parameters()).param_groups
    names = {weight: name for name, weight in method.named_parameters()}
    decays = {names[weight] for group in groups for weight in group["params"] if group["weight_decay"]}
    still = {names[weight] for group in groups for weight in group["params"]} - decays
    assert "decoder.mask_token" in still
    own = {"resunet": set(), "vit": {"class_token", "registers"}, "swin": {"mask_token", "stages.0.0.attention.bias"}}
    assert {f"backbone.{each}" for each in own[name]} <= still
    assert all(each.endswith(("weight", "weight.original1")) for each in decays)
    assert all(method.get_parameter(each).ndim == 1 for each in still if each.endswith("weight"))


def test_keys_that_no_group_has_are_refused() -> None:
    weights = [nn.Parameter(torch.zeros(2, 2))]
    for group, message in (
        ({"params": weights, "lr": 0.1}, "no key 'lr'; known are params, .*lr_scale times that of the loop"),
        ({"params": weights, "start_at": 0.1}, "no key 'start_at'; did you mean 'starts_at'"),
        ({"lr_scale": 0.1}, "needs the key 'params'"),
    ):
        with pytest.raises(UserError, match=message):
            build_optimiser([group], LOOP)
