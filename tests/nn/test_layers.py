"""Layers that several networks share: positions of tokens, and convolutions in bfloat16."""

import pytest
import torch

from alice3d.nn.layers import Conv3, sincos_position


def test_positions_are_distinct_and_fit_any_grid():
    for grid in ((2, 3, 4), (9, 9, 9)):
        code = sincos_position(grid, 50)
        assert code.shape == (grid[0] * grid[1] * grid[2], 50)
        assert torch.cdist(code, code).fill_diagonal_(1).min() > 1e-2


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 2, 2), (4, 2, 2), (3, 3, 3)])
def test_gradients_in_bfloat16_agree_with_float32_on_tiny_grids(shape):
    torch.manual_seed(0)
    conv, x = Conv3(16, 16, bias=False), torch.randn(2, 16, *shape)
    conv(x).square().mean().backward()
    expected = conv.weight.grad.clone()
    conv.weight.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x.to(memory_format=torch.channels_last_3d))
    y.float().square().mean().backward()
    assert (conv.weight.grad - expected).abs().max() < 0.05 * expected.abs().max()
