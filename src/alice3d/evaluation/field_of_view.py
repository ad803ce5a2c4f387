"""Key scans cropped so that a landmark lies outside: is its match refused, and are the others accepted?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.tables.landmarks import Landmarks

DEPTH_MM = (4.0, 40.0)
"""Distance in mm of the landmark outside the crop, sampled uniformly."""
CRANIAL_SHARE = 0.7
"""Fraction of crops along the body's long axis, where scans end; the others are along x or y."""
MIN_SHARE = 0.15
"""Minimum fraction of the body that must remain: less is too little to match."""


@dataclass(frozen=True)
class Cut:
    """One cropped key scan.

    Attributes:
        key: case id.
        axis: 0, 1, 2 for x, y, z.
        upper: whether coordinates above the plane are removed, else those below.
        plane_mm: RAS mm along the axis.
        queries: case ids that are matched with it.
    """

    key: str
    axis: int
    upper: bool
    plane_mm: float
    queries: tuple[str, ...]

    def apply(self, scan: ScanInput) -> ScanInput | None:
        """The scan up to the plane; None where less than `MIN_SHARE` of the body would be left."""
        start, stop = np.zeros(3, int), np.array(scan.grid.shape)
        place = scan.grid.index(np.full(3, self.plane_mm))[self.axis]
        if self.upper:
            stop[self.axis] = np.clip(np.floor(place) + 1, 0, stop[self.axis])
        else:
            start[self.axis] = np.clip(np.ceil(place), 0, stop[self.axis])
        left = scan.body[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        if left.sum() < MIN_SHARE * scan.body.sum() or not left.any():
            return None
        return scan.cropped(start, stop)


def draw_cuts(landmarks: Landmarks, *, per_case: int, queries: int, seed: int = 0) -> list[Cut]:
    """Sample crops, `per_case` of each case, each next to another landmark, and queries that contain the landmark.

    Args:
        landmarks: of the cases.
        per_case: crops of each key scan, at most one per landmark.
        queries: scans matched with each.
    """
    rng = np.random.default_rng([seed, 17])
    cuts = []
    for key, marks in sorted(landmarks.points_mm.items()):
        for name in rng.permutation(sorted(marks))[:per_case]:
            axis = 2 if rng.random() < CRANIAL_SHARE else int(rng.integers(2))
            upper, depth = bool(rng.random() < 0.5), rng.uniform(*DEPTH_MM)
            others = [case for case in sorted(landmarks.points_mm) if case != key and name in landmarks.points_mm[case]]
            if others:
                chosen = rng.choice(others, min(queries, len(others)), replace=False)
                plane = float(marks[str(name)][axis] + (-depth if upper else depth))
                cuts.append(Cut(key, axis, upper, plane, tuple(sorted(str(case) for case in chosen))))
    return cuts


def refusal(
    error_mm: NDArray[Any], accepted: NDArray[np.bool_], outside_mm: NDArray[Any], whole: NDArray[np.bool_]
) -> dict[str, Any]:
    """How many points outside the key scan are refused, and how many good matches are accepted.

    Args:
        error_mm: (n,) distance from the true position, also where it lies outside the key scan.
        outside_mm: (n,) distance of the true position outside the key scan; negative: inside.
        whole: (n,) True = the key scan was not cropped.

    Returns:
        counts and fractions; None where the denominator is 0.
    """
    good = (error_mm <= 10) & (outside_mm <= 0)

    def share(values: NDArray[np.bool_]) -> float | None:
        return float(values.mean()) if len(values) else None

    return {
        "gone": int((outside_mm > 0).sum()),
        "gone_refused": share(~accepted[outside_mm > 0]),
        "gone_8mm_refused": share(~accepted[outside_mm > 8]),
        "good": int((good & whole).sum()),
        "good_kept": share(accepted[good & whole]),
        "good_in_cut_scans": int((good & ~whole).sum()),
        "good_in_cut_scans_kept": share(accepted[good & ~whole]),
    }
