"""Two sanity checks of a matcher: a scan shifted in its array, and its mirror image."""

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
"""Voxels of air put before and after the scan along x, y and z for the self check; asymmetric on purpose."""
LATERAL = 0.15
"""Points farther from the body's centre than this fraction of its width count for the mirror check."""
MIN_MIRROR = 0.5
"""Minimum fraction of lateral points on the correct side in the mirror image; chance level is 0.5."""


@dataclass(frozen=True)
class SanityResult:
    """Result of the sanity checks.

    Attributes:
        self_mm: median distance between points of a scan and their match in the same scan shifted in its array.
        mirror_share: fraction of lateral points that keep their side in the scan's mirror image.
        voxel_mm: the longest side of the matcher's voxels.
    """

    self_mm: float
    mirror_share: float
    voxel_mm: float

    @property
    def mirror_passed(self) -> bool:
        """Whether left and right are distinguished; True as well where there are no lateral points (a crop of one
        organ)."""
        return not self.mirror_share <= MIN_MIRROR

    def require(self) -> None:
        """Stop where a check failed.

        Raises:
            WorkFailed: a check failed; with its value and meaning.
        """
        if not self.self_mm < self.voxel_mm:
            raise WorkFailed(
                f"self check: points matched with their own scan are {self.self_mm:.1f} mm off (median; must be "
                f"below one voxel, {self.voxel_mm:g} mm): an axis is mixed up, or the matcher learned nothing"
            )
        if not self.mirror_passed:
            raise WorkFailed(
                f"mirror check: in a scan's mirror image {self.mirror_share:.0%} of the lateral points keep their side "
                f"(must be above {MIN_MIRROR:.0%}): the matcher cannot tell left from right, or an axis is flipped"
            )


def self_check(matcher: Matcher, scan: ScanInput) -> float:
    """Median distance in mm between points and their match in the same scan shifted in its array.

    The second array has air around the scan, unequal on the six sides, and the affine that belongs to it: the world
    points are the same, the voxel indices are not. An axis that is reversed or exchanged on the way, even on both sides
    in the same way, moves the points. They are centres of cells, whose vectors are the same in both: the check tests
    the coordinates, also of a matcher trained for a minute; its accuracy is measured on landmarks.
    """
    query, key = matcher.embed(scan), matcher.embed(scan.laid_out(BEFORE, AFTER))
    points = query.cell_mm(np.rint(query.cell_of(body_points(query, POINTS))))
    found = search_all(query.at(points), key)
    return float(np.median(np.linalg.norm(found - points, axis=1)))


def mirror_check(matcher: Matcher, scan: ScanInput) -> float:
    """Fraction of lateral points that keep their side in RAS space when a scan is matched with its left-right mirror
    image.

    In the mirror image the patient's left side is on the right and looks like a right side. A matcher that
    distinguishes right and left finds a right point there, on the tissue of the other side: the anatomy is swapped, and
    the point keeps its side in space. A matcher that does not, for example one trained with mirrored crops, or one that
    reads an axis of one scan reversed, follows the tissue to the other side: a fraction near 0. Chance level is 0.5.
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


def run_sanity_checks(matcher: Matcher, store: Store, cases: list[Case]) -> SanityResult:
    """Both checks on some cases of a store: the median self error and the mean mirror fraction over them."""
    scans = [ScanInput.of_case(store, case, matcher.rule, matcher.spacing_mm) for case in cases]
    scans = [replace(scan, checksum="") for scan in scans]  # without a cache
    errors, shares = [self_check(matcher, scan) for scan in scans], [mirror_check(matcher, scan) for scan in scans]
    return SanityResult(float(np.median(errors)), float(np.nanmean(shares)), max(matcher.spacing_mm))
