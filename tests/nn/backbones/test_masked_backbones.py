"""Hidden patches never reach a feature: with a mask token in their place, and left out of a pyramid."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from alice3d.nn.backbones.base import Backbone
from alice3d.nn.backbones.registry import build_backbone

SIDE = 16
KINDS: dict[str, dict[str, Any]] = {
    "resunet": {"widths": [4, 6, 8, 12], "blocks": [1, 1, 1]},
    "vit": {"patch": 8, "width": 24, "depth": 2, "heads": 2},
    "swin": {"width": 6, "depths": [1, 2, 1], "heads": [1, 2, 2], "window": 4},
}


def built(kind: str) -> tuple[Backbone, Tensor, Tensor, Tensor]:
    """A backbone, crops, a mask with a quarter of the patches visible, and a mask token."""
    torch.manual_seed(0)
    backbone = build_backbone(kind, 1, KINDS[kind])
    visible = torch.zeros(2, 8, dtype=torch.bool)
    visible[0, [1, 6]] = True
    visible[1, [0, 3]] = True
    return backbone, torch.randn(2, 1, SIDE, SIDE, SIDE), visible, torch.randn(backbone.entry_width)


def changed_where_hidden(volume: Tensor, visible: Tensor) -> Tensor:
    """The crops with 1e6 at all hidden voxels."""
    seen = visible.view(2, 1, 2, 2, 2)
    for axis in (2, 3, 4):
        seen = seen.repeat_interleave(SIDE // 2, axis)
    return torch.where(seen, volume, 1e6)


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_voxels_never_enter_beside_a_mask_token(kind: str) -> None:
    backbone, volume, visible, mask_token = built(kind)
    class_token, tokens = backbone.masked_tokens(volume, visible, mask_token)
    assert class_token.shape == (2, backbone.width)
    assert tokens.shape == (2, 8, backbone.width)
    again = backbone.masked_tokens(changed_where_hidden(volume, visible), visible, mask_token)
    assert torch.equal(class_token, again[0])
    assert torch.equal(tokens, again[1])
    assert not torch.equal(tokens, backbone.masked_tokens(volume, visible, mask_token + 1)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_with_everything_visible_the_mask_token_changes_nothing(kind: str) -> None:
    backbone, volume, visible, mask_token = built(kind)
    everything = torch.ones_like(visible)
    for one, other in zip(backbone.masked_tokens(volume, everything, mask_token), backbone.tokens(volume), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_token_learns_where_something_is_hidden(kind: str) -> None:
    backbone, volume, visible, mask_token = built(kind)
    mask_token.requires_grad_(True)
    backbone.masked_tokens(volume, visible, mask_token)[1].square().sum().backward()
    assert mask_token.grad is not None
    assert float(mask_token.grad.abs().sum()) > 0
    gradient = torch.autograd.grad(
        backbone.masked_tokens(volume, torch.ones_like(visible), mask_token)[1].square().sum(),
        mask_token,
        allow_unused=True,
    )[0]
    assert gradient is None or float(gradient.abs().sum()) == 0


def test_a_masked_pyramid_leaves_hidden_places_out() -> None:
    backbone, volume, visible, _ = built("resunet")
    maps = backbone.pyramid(volume, visible)
    again = backbone.pyramid(changed_where_hidden(volume, visible), visible)
    for level, same in zip(maps, again, strict=True):
        assert torch.equal(level, same)
        seen = visible.view(2, 1, 2, 2, 2)
        for axis in (2, 3, 4):
            seen = seen.repeat_interleave(level.shape[2] // 2, axis)
        assert float(level.masked_select(~seen).abs().max()) == 0
    for level, whole in zip(backbone.pyramid(volume, torch.ones_like(visible)), backbone.pyramid(volume), strict=True):
        torch.testing.assert_close(level, whole)


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_transformers_refuse_a_masked_pyramid(kind: str) -> None:
    backbone, volume, visible, _ = built(kind)
    with pytest.raises(ValueError, match="places left out"):
        backbone.pyramid(volume, visible)
