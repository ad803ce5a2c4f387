"""Every backbone behind the one interface: shapes, masks that leak nothing, crops that agree with the whole."""

import pytest
import torch

from alice3d.errors import UserError
from alice3d.nn.backbones.registry import build_backbone

SMALL = {
    "resunet": {"widths": [4, 8, 8, 12], "blocks": [1, 1, 1]},
    "vit": {"patch": 8, "width": 24, "depth": 3, "heads": 2},
    "swin": {"width": 6, "depths": [2, 2, 2], "heads": [1, 2, 2], "window": 4},
}


def build(name):
    torch.manual_seed(0)
    return build_backbone(name, 2, SMALL[name]).eval()


def crops(seed=0, side=24):
    return torch.randn(2, 2, side, side, side + 8, generator=torch.Generator().manual_seed(seed))


def visible_tokens(count, seed=0):
    order = torch.rand(2, count, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return order < count // 4


@pytest.mark.parametrize("name", SMALL)
def test_shapes_are_what_the_interface_promises(name):
    backbone, volume = build(name), crops()
    grid = backbone.token_grid(volume.shape[2:])
    assert grid == (3, 3, 4)
    class_token, patches = backbone.tokens(volume)
    assert class_token.shape == (2, backbone.width)
    assert patches.shape == (2, 36, backbone.width)
    visible = visible_tokens(36)
    assert backbone.tokens(volume, visible)[1].shape == (2, 9, backbone.width)
    maps = backbone.pyramid(volume)
    assert [m.shape[1] for m in maps] == backbone.channels
    for one, stride in zip(maps, backbone.strides, strict=True):
        assert one.shape[2:] == (24 // stride, 24 // stride, 32 // stride)


@pytest.mark.parametrize("name", SMALL)
def test_hidden_voxels_never_reach_a_token(name):
    backbone, volume, visible = build(name), crops(), visible_tokens(36)
    hidden = ~visible.view(2, 1, 3, 3, 4)
    hidden = hidden.repeat_interleave(8, 2).repeat_interleave(8, 3).repeat_interleave(8, 4).expand_as(volume)
    changed = torch.where(hidden, torch.full_like(volume, 7.0), volume)
    for one, other in zip(backbone.tokens(volume, visible), backbone.tokens(changed, visible), strict=True):
        assert torch.equal(one, other)
    shown = torch.where(~hidden, torch.full_like(volume, 7.0), volume)
    assert not torch.equal(backbone.tokens(volume, visible)[1], backbone.tokens(shown, visible)[1])


@pytest.mark.parametrize("name", SMALL)
def test_tokens_with_everything_visible_equal_tokens_without_a_mask(name):
    backbone, volume = build(name), crops()
    everything = torch.ones(2, 36, dtype=torch.bool)
    for one, other in zip(backbone.tokens(volume), backbone.tokens(volume, everything), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_equals_its_items_alone(name):
    backbone, volume = build(name), crops()
    together = backbone.tokens(volume)[1]
    alone = torch.cat([backbone.tokens(volume[i : i + 1])[1] for i in range(2)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_visible_tokens_come_in_their_order():
    backbone, volume = build("vit"), crops()
    visible = torch.zeros(2, 36, dtype=torch.bool)
    visible[:, 5] = True
    token = backbone.tokens(volume, visible)[1]
    patch = volume.clone()
    x, y, z = 0, 1, 1  # token 5 of a 3 x 3 x 4 grid in x-major order
    keep = torch.zeros_like(volume, dtype=torch.bool)
    keep[:, :, 8 * x : 8 * x + 8, 8 * y : 8 * y + 8, 8 * z : 8 * z + 8] = True
    assert torch.equal(token, backbone.tokens(torch.where(keep, patch, torch.zeros_like(patch)), visible)[1])


def test_residual_features_do_not_depend_on_what_lies_far_away():
    backbone, volume = build("resunet"), crops(side=32)
    changed = volume.clone()
    changed[:, :, :, :, -2:] += 3.0
    one, other = backbone.pyramid(volume)[1], backbone.pyramid(changed)[1]
    assert torch.allclose(one[..., :8], other[..., :8], atol=1e-6)  # no crop statistics carry it over


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("resnet", {}, "resunet"),
        ("resunet", {"widht": 3}, "did you mean 'widths'"),
        ("resunet", {"widths": [4, 6, "x", 8]}, r"backbone_options.widths: a list of whole numbers from 1"),
        ("resunet", {"checkpoint": "maybe"}, "checkpoint: true or false is needed, got 'maybe'"),
        ("resunet", {"size": 5}, "size: a word is needed"),
        ("vit", {"width": "abc"}, "width: a whole number from 1 is needed, got 'abc'"),
        ("vit", {"width": -12}, "width: a whole number from 1"),
        ("vit", {"depth": 1.5}, "depth: a whole number"),
        ("vit", {"heads": True}, "heads: a whole number"),
        ("vit", {"patch": [8, 8, 8]}, "patch: a whole number"),
        ("swin", {"depths": 0}, "a list of whole numbers from 1 or a whole number from 1"),
        ("resunet", {"widths": [4, 8]}, "one longer"),
        ("vit", {"size": "huge"}, "tiny, small, base"),
        ("vit", {"width": 25, "heads": 2}, "multiple"),
        ("vit", {"registers": -1}, "registers: a whole number from 0"),
        ("swin", {"depths": [2, 2], "heads": [3]}, "one entry a scale"),
        ("swin", {"width": 9, "heads": [2, 2, 2]}, "multiple"),
        ("swin", {"window": 1}, "at least 2"),
        ("swin", {"depths": 2}, "one entry a scale"),
    ],
)
def test_wrong_names_and_options_are_refused_in_one_line(name, options, word):
    with pytest.raises(UserError, match=word) as caught:
        build_backbone(name, 1, options)
    assert "\n" not in str(caught.value)


def test_sides_that_do_not_fit_the_stride_are_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        build("resunet").tokens(torch.zeros(1, 2, 20, 24, 24))
