"""A matcher's embedding: its unit vectors, and the backbone's maps in it, their weights, standardisation and place."""

from __future__ import annotations

import pytest
import torch

from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.embedding import FPN3D, TrunkLevels

CHANNELS = [3, 4, 5, 6]


def maps(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, *[16 // 2**i] * 3, generator=generator) for i, c in enumerate(CHANNELS)]


def test_shares_grow_with_the_stride_and_add_up_to_one() -> None:
    fine, coarse = TrunkLevels(CHANNELS)(maps())
    assert fine.shape == (2, 12, 8, 8, 8)
    assert coarse.shape == (2, 6, 2, 2, 2)
    squares = [part.square().sum(dim=1) for part in (*torch.split(fine, [3, 4, 5], dim=1), coarse)]
    for square, share in zip(squares, (1, 2, 4, 8), strict=True):
        torch.testing.assert_close(square, torch.full_like(square, share / 15))


def test_units_of_a_channel_do_not_matter_once_standardised() -> None:
    """Maps in other units, with their mean and deviation, give the same vectors."""
    levels, scaled = TrunkLevels(CHANNELS), TrunkLevels(CHANNELS)
    shift, scale = torch.randn(18), torch.rand(18) + 0.5
    scaled.mean.copy_(shift)
    scaled.deviation.copy_(scale)
    shifts, scales = (torch.split(value, CHANNELS) for value in (shift, scale))
    other = [
        x * b.view(1, -1, 1, 1, 1) + a.view(1, -1, 1, 1, 1) for x, a, b in zip(maps(), shifts, scales, strict=True)
    ]
    for one, two in zip(levels(maps()), scaled(other), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_head_and_backbone_have_equal_weight() -> None:
    """The joined vectors' inner product, fine and coarse together, is the mean of the head's and the backbone's."""
    torch.manual_seed(0)
    options = {"widths": CHANNELS, "blocks": [1, 1, 1]}
    joined = FPN3D(build_backbone("resunet", 1, options), fine_width=8, coarse_width=8, trunk=True).eval()
    plain = FPN3D(build_backbone("resunet", 1, options), fine_width=8, coarse_width=8).eval()
    plain.load_state_dict({k: v for k, v in joined.state_dict().items() if not k.startswith("trunk.")})
    volume = torch.randn(1, 1, 16, 16, 16)
    assert joined.trunk is not None
    with torch.no_grad():
        fine, coarse = joined(volume)
        head_fine, head_coarse = plain(volume)
        backbone_fine, backbone_coarse = joined.trunk(plain.backbone.pyramid(volume))
    for both in (fine, coarse):
        torch.testing.assert_close(both.norm(dim=1), torch.ones(both.shape[0], *both.shape[2:]))
    a, b = (0, 0, 0), (3, 1, 2)

    def product(x: torch.Tensor) -> float:
        return float((x[0, :, *a] * x[0, :, *b]).sum())

    norm = 0.5 + 7 / 15
    assert product(fine) == pytest.approx((0.5 * product(head_fine) + product(backbone_fine)) / norm, abs=1e-5)
    a, b = (0, 0, 0), (1, 0, 1)
    norm = 0.5 + 8 / 15
    assert product(coarse) == pytest.approx((0.5 * product(head_coarse) + product(backbone_coarse)) / norm, abs=1e-5)


def test_pyramid_network_gives_unit_vectors_at_half_and_an_eighth() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("resunet", 2, {"widths": [4, 8, 8, 12], "blocks": [1, 1, 1]}).eval()
    crops = torch.randn(2, 2, 24, 24, 32, generator=torch.Generator().manual_seed(0))
    fine, coarse = FPN3D(backbone, fine_width=6, coarse_width=10)(crops)
    assert fine.shape == (2, 6, 12, 12, 16)
    assert coarse.shape == (2, 10, 3, 3, 4)
    for one in (fine, coarse):
        assert torch.allclose(one.norm(dim=1), torch.ones(()), atol=1e-5)
