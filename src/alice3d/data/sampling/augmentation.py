"""Random changes of a crop's intensities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def change_intensity(image: NDArray[np.float32], strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gain, shift, gamma, blur and noise on channels (c, x, y, z) that lie in about -1 .. 1; nothing moves."""
    channels = (len(image), 1, 1, 1)
    gain = np.exp(rng.normal(0, 0.1 * strength, channels))
    shift = rng.normal(0, 0.07 * strength, channels)
    gamma = np.exp(rng.normal(0, 0.15 * strength))
    out = np.clip((image + 1) / 2, 0, None) ** gamma * 2 - 1
    out = out * gain + shift
    if rng.random() < 0.2 * strength:
        sigma = rng.uniform(0.3, 0.8)
        out = ndimage.gaussian_filter(out, (0, sigma, sigma, sigma))
    noise = rng.uniform(0, 0.08 * strength)
    changed: NDArray[np.float32] = (out + noise * rng.standard_normal(image.shape, np.float32)).astype(np.float32)
    return changed
