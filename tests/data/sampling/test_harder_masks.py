"""Masks that hide what is hardest to reconstruct: exact counts, and the share that is random."""

from __future__ import annotations

import numpy as np

from alice3d.data.sampling.masks import draw_harder_visible


def test_all_hardest_is_the_top_of_the_errors() -> None:
    error = np.random.default_rng(0).random((4, 20))
    visible = draw_harder_visible(error, 7, 1.0, np.random.default_rng(1))
    for row, seen in zip(error, visible, strict=True):
        assert set(np.flatnonzero(~seen)) == set(np.argsort(row)[-7:])


def test_half_hardest_holds_them_and_the_rest_is_random_among_all_others() -> None:
    error = np.tile(np.arange(20.0), (3000, 1))
    visible = draw_harder_visible(error, 8, 0.5, np.random.default_rng(2))
    assert ((~visible).sum(axis=1) == 8).all()
    assert (~visible[:, 16:]).all()
    share = (~visible[:, :16]).mean(axis=0)
    np.testing.assert_allclose(share, 4 / 16, atol=4 * np.sqrt(0.25 * 0.75 / 3000))


def test_none_hardest_is_uniform_and_equal_errors_are_ordered_at_random() -> None:
    for hardest, error in ((0.0, np.tile(np.arange(10.0), (5000, 1))), (1.0, np.ones((5000, 10)))):
        hidden = ~draw_harder_visible(error, 3, hardest, np.random.default_rng(3))
        assert (hidden.sum(axis=1) == 3).all()
        np.testing.assert_allclose(hidden.mean(axis=0), 0.3, atol=4 * np.sqrt(0.3 * 0.7 / 5000))
