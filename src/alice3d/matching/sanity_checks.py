"""Two checks before a matcher's pairs are believed: a scan moved in its array, and its mirror image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.store import Case, Store
from alice3d.errors import WorkFailed
from alice3d.matching.embedding import COARSE
from alice3d.matching.matcher import Matcher, body_points
from alice3d.matching.search import search_all

POINTS = 200
BEFORE, AFTER = (COARSE, 2 * COARSE, 3 * COARSE), (3 * COARSE, 0, COARSE)
"""Voxels of air put before and after the scan along x, y and z for the self check; nothing of it is symmetric."""
LATERAL = 0.15
"""Points count for the mirror check beyond this share of the body's width from its middle."""
MIN_MIRROR = 0.5
"""Smallest share of lateral points on the right side in the mirror image; a matcher that guesses reaches a half."""


@dataclass(frozen=True)
class GuardResult:
    """What the guards found.

    Attributes:
        self_mm: median distance between points of a scan and their match in the same scan moved in its array.
        mirror_share: share of lateral points that keep their side in the scan's mirror image.
        voxel_mm: the longest side of the matcher's voxels.
    """

    self_mm: float
    mirror_share: float
    voxel_mm: float

    @property
    def mirror_passed(self) -> bool:
        """Whether left and right are told apart; also where no point lies to the side (a crop of one organ)."""
        return not self.mirror_share <= MIN_MIRROR

    def require(self) -> None:
        """Stop where a guard failed.

        Raises:
            WorkFailed: naming the guard, what it found and what that means.
        """
        if not self.self_mm < self.voxel_mm:
            raise WorkFailed(
                f"self check: points matched with their own scan come back {self.self_mm:.1f} mm off (median; must be "
                f"below one voxel, {self.voxel_mm:g} mm): an axis is mixed up, or the matcher learned nothing"
            )
        if not self.mirror_passed:
            raise WorkFailed(
                f"mirror check: in a scan's mirror image {self.mirror_share:.0%} of the lateral points keep their side "
                f"(must be above {MIN_MIRROR:.0%}): the matcher cannot tell left from right, or an axis is flipped"
            )


def self_check(matcher: Matcher, scan: ScanInput) -> float:
    """Median distance in mm between points and their match in the same scan laid elsewhere in its array.

    The second array has air around the scan, unequal on the six sides, and the affine that belongs to it: the world
    points are the same, the voxel indices are not. An axis that is reversed or exchanged on the way, even on both sides
    alike, moves the points. They are centres of cells, whose vectors are the same in both: the check asks whether the
    road is right, also of a matcher that has learned for a minute; how well it matches is measured on landmarks.
    """
    query, key = matcher.embed(scan), matcher.embed(scan.laid_out(BEFORE, AFTER))
    points = query.cell_mm(np.rint(query.cell_of(body_points(query, POINTS))))
    found = search_all(query.at(points), key)
    return float(np.median(np.linalg.norm(found - points, axis=1)))


def mirror_check(matcher: Matcher, scan: ScanInput) -> float:
    """Share of lateral points that keep their side of space when a scan is matched with its left-right mirror image.

    In the mirror image stands, on the right, what was the patient's left side turned over: it looks like a right side.
    A matcher that knows right from left finds a right point there, on the tissue of the other side: left and right are
    swapped, and the point's side in space stays. One that is blind to it, for example trained with mirror images, or
    one that reads an axis of one scan reversed, follows the tissue across: a share near 0. A guess gives a half.
    """
    query, key = matcher.embed(scan), matcher.embed(scan.mirrored())
    points = body_points(query, 2 * POINTS)
    middle = np.median(points[:, 0])
    lateral = points[np.abs(points[:, 0] - middle) > LATERAL * np.ptp(points[:, 0])]
    if not len(lateral):
        return float("nan")
    found = search_all(query.at(lateral), key)
    mirrored_middle = 2 * scan.grid.centre_mm[0] - middle
    kept = np.sign(found[:, 0] - mirrored_middle) == np.sign(lateral[:, 0] - middle)
    return float(kept.mean())


def run_guards(matcher: Matcher, store: Store, cases: list[Case]) -> GuardResult:
    """Both guards on some cases of a store: the median self error and the mean mirror share over them."""
    scans = [ScanInput.of_case(store, case, matcher.rule, matcher.spacing_mm) for case in cases]
    scans = [replace(scan, checksum="") for scan in scans]  # nothing from a cache
    errors, shares = [self_check(matcher, scan) for scan in scans], [mirror_check(matcher, scan) for scan in scans]
    return GuardResult(float(np.median(errors)), float(np.nanmean(shares)), max(matcher.spacing_mm))
