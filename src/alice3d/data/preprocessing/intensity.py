"""From the scanner's values to network inputs: windows for CT, body statistics for MR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from alice3d.config import nearest
from alice3d.errors import UserError

AIR_HU = -1024.0
"""Value outside a CT scan."""
SMALLEST_STD = 1e-6
"""Least standard deviation of an MR body, as a fraction of its largest values, whatever their unit."""
WINDOWS = {
    "soft_tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-500.0, 1300.0),
    "brain": (0.0, 80.0),
    "body": (-200.0, 300.0),
    "wide": (-1000.0, 1000.0),
}
"""Name to (low, high) in HU: the radiologists' usual width and level; body and wide are used by the models here."""


def parse_windows(text: str) -> tuple[tuple[float, float], ...]:
    """Windows written as names or as LOW:HIGH in HU, comma separated: `soft_tissue,lung` or `-200:300,bone`.

    Raises:
        UserError: neither, or low not below high.
    """
    windows = []
    for part in text.split(","):
        name = part.strip()
        if name in WINDOWS:
            windows.append(WINDOWS[name])
            continue
        try:
            low, high = (float(end) for end in name.split(":"))
        except ValueError:
            raise UserError(f"windows: {name!r} is no LOW:HIGH in HU; {nearest(name, WINDOWS)}") from None
        if not -1e5 < low < high < 1e5:
            raise UserError(f"windows: low {low:g} must lie below high {high:g}")
        windows.append((low, high))
    return tuple(windows)


class IntensityRule(BaseModel):
    """How voxels become channels; written into every card, so that a model reads new scans like its training scans."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    modality: Literal["ct", "mr"] = "ct"
    """ct: Hounsfield units seen through `windows`; mr: z-score of the body, clipped to its 0.5 and 99.5 percentiles."""
    windows: tuple[tuple[float, float], ...] = ((-200.0, 300.0), (-1000.0, 1000.0))
    """CT only: one channel per window (low, high) in HU, mapped to -1 .. 1; soft tissue, then lung with bone."""

    @model_validator(mode="after")
    def _ordered(self) -> IntensityRule:
        if self.modality == "ct" and not self.windows:
            raise ValueError("windows: at least one (low, high) pair in HU is needed for CT")
        for low, high in self.windows:
            if not low < high:
                raise ValueError(f"windows: low {low:g} must lie below high {high:g}")
        return self

    @property
    def channels(self) -> int:
        """Number of channels that a network gets."""
        return len(self.windows) if self.modality == "ct" else 1

    def fill(self, stats: Mapping[str, float]) -> float:
        """The raw value outside the scan: air for CT, the body's 0.5 percentile for MR."""
        return AIR_HU if self.modality == "ct" else float(stats["p005"])

    def air(self, stats: Mapping[str, float]) -> NDArray[np.float32]:
        """Channel values (c,) outside the scan. They are the scan's own: for MR they depend on its statistics."""
        return self(np.full((1, 1, 1), self.fill(stats)), stats).reshape(-1)

    def __call__(self, array: NDArray[Any], stats: Mapping[str, float]) -> NDArray[np.float32]:
        """Raw voxels (x, y, z) to channels (c, x, y, z), float32.

        Args:
            array: the stored values.
            stats: `mean`, `std`, `p005`, `p995` of the body's voxels of this scan (used for MR).
        """
        values = np.asarray(array, np.float32)
        if self.modality == "mr":
            clipped = np.clip(values, stats["p005"], stats["p995"])
            least = SMALLEST_STD * max(abs(stats["p005"]), abs(stats["p995"])) or 1.0
            scaled = (clipped - stats["mean"]) / max(stats["std"], least) / 2  # most voxels within -1 .. 1, as CT's
            return scaled[None].astype(np.float32)
        channels = [np.clip((values - low) * (2 / (high - low)) - 1, -1, 1) for low, high in self.windows]
        return np.stack(channels).astype(np.float32, copy=False)
