"""3D Swin against attention over the whole grid with an explicit mask, and against MONAI's Swin UNETR."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from monai.networks.nets import swin_unetr
from torch import Tensor

from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.backbones.swin3d import PatchMerging, Swin3D, SwinBlock
from alice3d.nn.backbones.windows import Sides, WindowAttention, from_windows, into_windows, may_attend, window_layout

GRIDS: list[Sides] = [(4, 4, 4), (2, 4, 6), (5, 7, 3), (1, 2, 9)]


def window_number(place: tuple[int, ...], grid: Sides, window: int, shifted: bool) -> tuple[int, ...]:
    """Which window a place lies in, by counting: shifted windows begin with one cut short."""
    numbers = []
    for at, length in zip(place, grid, strict=True):
        count = -(-length // window)
        side = -(-length // count)
        borders = list(range(side // 2 if shifted and count > 1 else side, length + side, side))
        numbers.append(sum(border <= at for border in borders))
    return tuple(numbers)


def dense_attention(attention: WindowAttention, x_bxyzd: Tensor) -> Tensor:
    """Every place against every other of the whole grid; scores of places in different windows are set to -inf."""
    b, *sides, d = x_bxyzd.shape
    grid = (sides[0], sides[1], sides[2])
    places = list(itertools.product(*(range(n) for n in grid)))
    numbers = [window_number(place, grid, attention.window, attention.shifted) for place in places]
    span, heads = 2 * attention.window - 1, attention.heads
    score_bias = torch.full((heads, len(places), len(places)), -torch.inf)
    for i, j in itertools.product(range(len(places)), repeat=2):
        if numbers[i] == numbers[j]:
            dx, dy, dz = (a - c + attention.window - 1 for a, c in zip(places[i], places[j], strict=True))
            score_bias[:, i, j] = attention.bias[(dx * span + dy) * span + dz]
    q, k, v = attention.qkv(x_bxyzd.reshape(b, len(places), d)).view(b, -1, 3, heads, d // heads).unbind(2)
    scores = torch.einsum("bihe,bjhe->bhij", q, k) / (d // heads) ** 0.5 + score_bias
    mixed = torch.einsum("bhij,bjhe->bihe", scores.softmax(-1), v).reshape(b, -1, d)
    out: Tensor = attention.out(mixed).view(b, *grid, d)
    return out


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_window_attention_equals_masked_attention_over_the_whole_grid(grid: Sides, shifted: bool) -> None:
    torch.manual_seed(0)
    attention = WindowAttention(12, 3, window=3, shifted=shifted)
    torch.nn.init.normal_(attention.bias)
    x, weight = torch.randn(2, *grid, 12, requires_grad=True), torch.randn(2, *grid, 12)
    results = []
    for answer in (attention(x), dense_attention(attention, x)):
        gradients = torch.autograd.grad((answer * weight).sum(), [x, *attention.parameters()])
        results.append([answer, *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS)
def test_windows_are_put_back_where_they_came_from(grid: Sides) -> None:
    sides, _, padded = window_layout(grid, 3, False)
    assert all(
        side <= 3 and whole % side == 0 and whole >= n for side, whole, n in zip(sides, padded, grid, strict=True)
    )
    x = torch.randn(2, *padded, 5)
    assert torch.equal(from_windows(into_windows(x, sides), sides, padded), x)


def test_nothing_is_masked_where_windows_fit() -> None:
    assert may_attend((6, 6, 12), 6, False) is None
    assert may_attend((6, 6, 6), 6, True) is None  # a single window has nowhere to shift
    seen = may_attend((6, 6, 12), 6, True)
    assert seen is not None
    assert seen.any(dim=2).all()  # each place sees at least itself, so that no softmax is empty


def monai_block(block: SwinBlock, window: int, shift: int) -> Any:
    """MONAI's block with the same weights."""
    width = block.norm1.normalized_shape[0]
    theirs = swin_unetr.SwinTransformerBlock(width, block.attention.heads, (window,) * 3, (shift,) * 3)
    own = block.state_dict()
    names = {"attn.relative_position_bias_table": "attention.bias", "attn.proj": "attention.out", "attn": "attention"}
    names |= {"mlp.linear1": "mlp.0", "mlp.linear2": "mlp.2"}
    state = theirs.state_dict()
    for key in state:
        renamed = key
        for old, new in names.items():
            if key.startswith(old):
                renamed = key.replace(old, new, 1)
                break
        if "position_index" not in key:
            state[key] = own[renamed]
    theirs.load_state_dict(state)
    return theirs.eval()


@pytest.mark.parametrize("shifted", [False, True])
def test_block_equals_monais(shifted: bool) -> None:
    torch.manual_seed(0)
    block = SwinBlock(12, 3, window=4, shifted=shifted)
    torch.nn.init.normal_(block.attention.bias)
    theirs = monai_block(block, 4, 2 if shifted else 0)
    x = torch.randn(2, 8, 4, 12, 12)
    mask = swin_unetr.compute_mask([8, 4, 12], (4, 4, 4), (2, 0, 2), "cpu")
    with torch.no_grad():
        torch.testing.assert_close(block(x), theirs(x, mask), rtol=1e-4, atol=1e-5)


def test_merging_equals_monais() -> None:
    torch.manual_seed(0)
    merge, theirs = PatchMerging(6), swin_unetr.PatchMergingV2(6)
    theirs.load_state_dict({key.replace("reduce", "reduction"): value for key, value in merge.state_dict().items()})
    x = torch.randn(2, 4, 6, 2, 6)
    with torch.no_grad():
        torch.testing.assert_close(merge(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_learns_as_many_numbers_as_monais() -> None:
    depths, heads = (2, 2, 2, 2), (3, 6, 12, 24)
    theirs = swin_unetr.SwinTransformer(2, 24, (7,) * 3, (2,) * 3, depths, heads, use_v2=False, patch_norm=False)
    ours = Swin3D(in_channels=2, width=24, window=7, depths=depths, heads=heads)
    width = 24 * 8  # MONAI merges once more after the last scale, and has no mask token, class token or last norm
    last_merge = 2 * 8 * width + 8 * width * 2 * width
    extra = 24 + (width * width + width) + 2 * width
    count = [sum(p.numel() for p in net.parameters()) for net in (theirs, ours)]
    assert count[0] - last_merge == count[1] - extra


def test_hidden_voxels_get_no_gradient_and_visible_ones_do() -> None:
    torch.manual_seed(0)
    net = build_backbone("swin", 1, {"width": 6, "depths": [2, 2, 2], "heads": [1, 2, 2], "window": 3})
    volume = torch.randn(2, 1, 16, 24, 16, requires_grad=True)
    visible = torch.zeros(2, 12, dtype=torch.bool)
    visible[0, [0, 5, 7]] = True
    visible[1, [2, 3, 11]] = True
    class_token, tokens = net.tokens(volume, visible)
    (class_token.square().sum() + tokens.square().sum()).backward()
    assert volume.grad is not None
    shown = visible.view(2, 1, 2, 3, 2)
    for axis in (2, 3, 4):
        shown = shown.repeat_interleave(8, axis)
    assert volume.grad[~shown].abs().max() == 0
    assert (volume.grad[shown] != 0).float().mean() > 0.99


@pytest.mark.parametrize("side", [8, 16, 40, 48])
def test_takes_any_crop_of_whole_tokens(side: int) -> None:
    torch.manual_seed(0)
    net = build_backbone("swin", 2, {"width": 4, "depths": [2, 2], "heads": [1, 2], "patch": 4})
    class_token, tokens, maps = net.whole(torch.randn(1, 2, side, 8, 24))
    assert tokens.shape == (1, side // 8 * 3, 8)
    assert class_token.shape == (1, 8)
    assert [tuple(level.shape[1:]) for level in maps] == [(4, side // 4, 2, 6), (8, side // 8, 1, 3)]
    assert all(bool(level.isfinite().all()) for level in maps)


def test_runs_in_bfloat16() -> None:
    torch.manual_seed(0)
    net = build_backbone("swin", 1, {"width": 8, "depths": [2, 2], "heads": [1, 2], "window": 3})
    volume = torch.randn(1, 1, 16, 16, 16)
    expected = net.tokens(volume)[1]
    with torch.autocast("cpu", torch.bfloat16):
        tokens = net.tokens(volume)[1]
    tokens.float().sum().backward()
    torch.testing.assert_close(tokens.float(), expected, rtol=0.1, atol=0.1)
    assert all(
        p.grad is not None for key, p in net.named_parameters() if key not in ("mask_token",) and "class" not in key
    )
