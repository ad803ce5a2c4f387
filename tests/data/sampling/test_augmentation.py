"""Changes of intensity: voxels stay where they are."""

from __future__ import annotations

import numpy as np

from alice3d.data.sampling.augmentation import change_intensity


def test_intensity_changes_move_nothing() -> None:
    image = np.zeros((1, 9, 9, 9), np.float32) - 1
    image[0, 4, 4, 4] = 1
    for seed in range(10):
        changed = change_intensity(image, 1.0, np.random.default_rng(seed))
        assert np.unravel_index(changed[0].argmax(), (9, 9, 9)) == (4, 4, 4)
    np.testing.assert_allclose(change_intensity(image, 0.0, np.random.default_rng(0)), image, atol=1e-5)
