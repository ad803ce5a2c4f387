"""Masks hide exactly what was asked, alone or in cubes."""

import numpy as np
import pytest

from alice3d.data.sampling.masks import draw_visible, draw_visible_regions


@pytest.mark.parametrize("share", [0.0, 0.3, 0.75, 0.999])
@pytest.mark.parametrize("block", [1, 2, 3])
def test_exactly_the_asked_share_is_hidden_and_one_patch_stays(share, block):
    visible = draw_visible((4, 5, 6), share, block, np.random.default_rng(0))
    assert visible.shape == (120,)
    assert (~visible).sum() == min(round(share * 120), 119)


def test_the_same_generator_draws_the_same_mask():
    first, second, other = (draw_visible((4, 4, 4), 0.5, 1, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


def test_blocks_hide_neighbours_together():
    def agreement(block):
        masks = [draw_visible((8, 8, 8), 0.5, block, np.random.default_rng(seed)).reshape(8, 8, 8) for seed in range(8)]
        return np.mean([(mask[1:] == mask[:-1]).mean() for mask in masks])

    assert agreement(1) < 0.55
    assert agreement(4) > 0.8


def test_every_patch_is_hidden_about_equally_often():
    often = np.mean([draw_visible((4, 4, 4), 0.75, 2, np.random.default_rng(seed)) for seed in range(400)], axis=0)
    assert often.min() > 0.12
    assert often.max() < 0.40


@pytest.mark.parametrize("share", [0.0, 0.4, 0.75, 0.999])
def test_regions_hide_exactly_the_asked_share(share):
    image = np.random.default_rng(0).normal(size=(2, 8, 12, 16)).astype(np.float32)
    visible = draw_visible_regions(image, 4, share, 2, np.random.default_rng(1))
    assert visible.shape == (24,)
    assert (~visible).sum() == min(round(share * 24), 23)


def test_regions_keep_what_looks_alike_together():
    """Two slabs of unlike brightness: neighbours of one slab share their fate, neighbours across the border less."""
    image = np.zeros((1, 32, 32, 32), np.float32)
    image[:, 16:] = 4.0
    masks = np.stack(
        [draw_visible_regions(image, 4, 0.5, 2, np.random.default_rng(i)).reshape(8, 8, 8) for i in range(200)]
    )
    same = (masks[:, 1:] == masks[:, :-1]).mean(axis=(0, 2, 3))
    assert same[3] < same[[1, 2, 4, 5]].min() - 0.1
