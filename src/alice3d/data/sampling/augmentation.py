"""Random changes of a crop's intensities; what was drawn is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True)
class IntensityChange:
    """What was drawn for one view; nothing moves.

    Attributes:
        gain, shift: (c,) of each channel, after gamma.
        gamma: exponent on intensities mapped to 0 .. 1.
        sigma: of a Gaussian blur, in voxels; 0 = none.
        noise: standard deviation of added noise; the noise itself is drawn when it is applied.
    """

    gain: NDArray[np.float64]
    shift: NDArray[np.float64]
    gamma: np.float64
    sigma: float
    noise: float

    @classmethod
    def draw(cls, channels: int, strength: float, rng: np.random.Generator) -> IntensityChange:
        """Draw one.

        Args:
            channels: of the crop.
            strength: 1 is the usual, 0 changes nothing.
            rng: where the randomness comes from.
        """
        gain = np.exp(rng.normal(0, 0.1 * strength, channels))
        shift = rng.normal(0, 0.07 * strength, channels)
        gamma = np.exp(rng.normal(0, 0.15 * strength))
        sigma = float(rng.uniform(0.3, 0.8)) if rng.random() < 0.2 * strength else 0.0
        return cls(gain, shift, gamma, sigma, float(rng.uniform(0, 0.08 * strength)))

    def __call__(self, image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Apply it to channels (c, x, y, z) that lie in about -1 .. 1.

        Args:
            image: the crop.
            rng: of the noise.
        """
        ends = (len(image), 1, 1, 1)
        out = np.clip((image + 1) / 2, 0, None) ** self.gamma * 2 - 1
        out = out * self.gain.reshape(ends) + self.shift.reshape(ends)
        if self.sigma:
            out = ndimage.gaussian_filter(out, (0, self.sigma, self.sigma, self.sigma))
        changed: NDArray[np.float32] = (out + self.noise * rng.standard_normal(image.shape, np.float32)).astype(
            np.float32
        )
        return changed

    def record(self) -> NDArray[np.float32]:
        """(2c + 3,) gain, shift, gamma, sigma, noise: what a sample keeps of it."""
        return np.concatenate([self.gain, self.shift, [self.gamma, self.sigma, self.noise]]).astype(np.float32)


def change_intensity(image: NDArray[np.float32], strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gain, shift, gamma, blur and noise on channels (c, x, y, z) that lie in about -1 .. 1; nothing moves."""
    return IntensityChange.draw(len(image), strength, rng)(image, rng)
