"""Every named size of every backbone holds as many numbers as its formula says, and options keep their promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alice3d.errors import UserError
from alice3d.nn.backbones import resunet, swin3d, vit3d
from alice3d.nn.backbones.registry import BACKBONES, build_backbone

NAMED = {"resunet": resunet.SIZES, "vit": vit3d.SIZES, "swin": swin3d.SIZES}


def transformer_block(d: int) -> int:
    """Two norms, qkv, output projection, MLP of four times the width."""
    return 2 * 2 * d + (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d)


def vit_parameters(size: str, channels: int, patch: int = 8, registers: int = 0) -> int:
    """Embedding, class token, registers, blocks, last norm; the position code is not learned."""
    d, depth, _ = vit3d.SIZES[size]
    return (channels * patch**3 * d + d) + d + registers * d + depth * transformer_block(d) + 2 * d


def swin_parameters(size: str, channels: int, patch: int = 2, window: int = 6) -> int:
    """Embedding, mask token, blocks with a bias for each offset, mergings, last norm, class token."""
    first, depths, heads = swin3d.SIZES[size]
    widths = [first * 2**scale for scale in range(len(depths))]
    blocks = sum(
        count * (transformer_block(d) + (2 * window - 1) ** 3 * number)
        for d, count, number in zip(widths, depths, heads, strict=True)
    )
    merges = sum(2 * 8 * d + 8 * d * 2 * d for d in widths[:-1])
    d = widths[-1]
    return (channels * patch**3 * first + first) + first + blocks + merges + 2 * d + (d * d + d)


def resunet_parameters(size: str, channels: int) -> int:
    """Stem, strided convolutions with norms, residual blocks of two convolutions and two norms, class token."""
    widths, blocks = resunet.SIZES[size]
    total = 27 * channels * widths[0] + widths[0]
    for shallow, deep, count in zip(widths[:-1], widths[1:], blocks, strict=True):
        total += 8 * shallow * deep + deep + 2 * deep + count * (2 * 27 * deep * deep + 2 * 2 * deep)
    d = widths[-1]
    return total + 2 * d + d * d + d


FORMULAS = {"resunet": resunet_parameters, "vit": vit_parameters, "swin": swin_parameters}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    *((name, size, {}) for name, sizes in NAMED.items() for size in sizes),
    ("vit", "tiny", {"patch": 6}),
    ("vit", "small", {"patch": 16}),
    ("vit", "tiny", {"registers": 4}),
    ("swin", "tiny", {"patch": 4}),
    ("swin", "tiny", {"window": 4}),
]


def test_every_backbone_has_its_formula() -> None:
    assert set(FORMULAS) == set(BACKBONES) == set(NAMED)


@pytest.mark.parametrize(("name", "size", "options"), CASES)
@pytest.mark.parametrize("channels", [1, 2])
def test_sizes_hold_what_the_formula_says(name: str, size: str, options: dict[str, Any], channels: int) -> None:
    with torch.device("meta"):  # counted, not allocated
        net = build_backbone(name, channels, {"size": size, **options})
    assert sum(p.numel() for p in net.parameters()) == FORMULAS[name](size, channels, **options)


@pytest.mark.parametrize("name", BACKBONES)
def test_an_unknown_size_names_the_known_ones(name: str) -> None:
    with pytest.raises(UserError, match=", ".join(NAMED[name])):
        build_backbone(name, 1, {"size": "huge"})


TINY: dict[str, dict[str, Any]] = {
    "resunet": {"widths": [4, 6, 8, 12], "blocks": [1, 1, 1]},
    "vit": {"width": 24, "depth": 3, "heads": 2, "registers": 2},
    "swin": {"width": 6, "depths": [2, 2, 2], "heads": [1, 2, 2], "window": 3},
}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("masked", [False, True])
def test_checkpointing_changes_no_gradient(name: str, masked: bool) -> None:
    volume, visible = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)), None
    if masked:
        visible = torch.arange(8).expand(2, 8) % 2 == 0
    gradients = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        net = build_backbone(name, 1, {**TINY[name], "checkpoint": checkpoint})
        if masked:
            class_token, tokens = net.tokens(volume, visible)
            loss = class_token.square().sum() + tokens.square().sum()
        else:
            loss = torch.stack([level.square().mean() for level in net.pyramid(volume)]).sum()
        loss.backward()
        gradients.append({key: p.grad for key, p in net.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][key]), key


@pytest.mark.parametrize("name", BACKBONES)
def test_checkpointing_keeps_less_for_the_backward_pass(name: str) -> None:
    kept = []
    for checkpoint in (False, True):
        net = build_backbone(name, 1, {**TINY[name], "checkpoint": checkpoint})
        sizes: list[int] = []

        def weigh(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(weigh, lambda tensor: tensor):
            net.tokens(torch.zeros(1, 1, 16, 16, 16))
        kept.append(sum(sizes))
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.parametrize("patch", [6, 8, 16])
def test_a_whole_pass_of_the_vit_equals_its_parts(patch: int) -> None:
    torch.manual_seed(0)
    net = build_backbone("vit", 1, {"patch": patch, "width": 24, "depth": 5, "heads": 2, "registers": 3})
    volume = torch.randn(2, 1, 2 * patch, patch, 3 * patch)
    class_token, tokens, maps = net.whole(volume)
    assert tokens.shape == (2, 6, 24)
    for one, other in zip((class_token, tokens), net.tokens(volume), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(maps, net.pyramid(volume), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(maps[-1].flatten(2).transpose(1, 2), tokens)


def test_embedding_is_the_strided_convolution_it_is_stored_as() -> None:
    torch.manual_seed(0)
    net = build_backbone("vit", 2, {"patch": 4, "width": 24, "depth": 1, "heads": 2})
    assert isinstance(net, vit3d.ViT3D)
    volume = torch.randn(2, 2, 8, 4, 12)
    expected = net.embed(volume).flatten(2).transpose(1, 2) + vit3d.sincos_position((2, 1, 3), 24)
    torch.testing.assert_close(net._enter(volume, None)[:, 1:], expected, rtol=1e-4, atol=1e-5)


def test_registers_take_part_but_are_not_given() -> None:
    torch.manual_seed(0)
    net = build_backbone("vit", 1, {"width": 24, "depth": 2, "heads": 2, "registers": 4})
    volume, visible = torch.randn(1, 1, 16, 16, 16), torch.arange(8)[None] < 3
    before = net.tokens(volume, visible)
    assert before[1].shape == (1, 3, 24)
    with torch.no_grad():
        net.registers.add_(1.0)
    assert not torch.allclose(before[1], net.tokens(volume, visible)[1])
