"""Results of matching: matched points, and the map between two scans."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alice3d.data.pairs import PairRows
from alice3d.data.pairs.correspondence import Correspondence
from alice3d.matching.confidence import MatchFeatures


@dataclass(frozen=True)
class Matches:
    """Matched points, one row each.

    Attributes:
        point_mm: (n, 3) RAS mm in the key scan.
        similarity: (n,) mean cosine of the fine and the coarse embedding, -1 .. 1.
        cycle_mm: (n,) distance from the query point after matching the match back.
        certainty: (n,) 0 .. 1 of the fitted map there; NaN in direct mode.
        accepted: (n,) bool.
        far_10mm, far_20mm: (n,) probability that the match is more than 10 and more than 20 mm off, as
            `alice calibrate-matcher` fitted it; NaN where the card has no such model.
        expected_mm: (n,) expected error; NaN likewise.
        features: features of the matches (`matching.confidence.MATCH_FEATURES`).
        agreement: inlier fraction: points all over the body that agree on the fitted map; None in direct mode. Near 0
            the two scans do not show the same anatomy.
    """

    point_mm: NDArray[np.float64]
    similarity: NDArray[np.float64]
    cycle_mm: NDArray[np.float64]
    certainty: NDArray[np.float64]
    accepted: NDArray[np.bool_]
    far_10mm: NDArray[np.float64]
    far_20mm: NDArray[np.float64]
    expected_mm: NDArray[np.float64]
    features: MatchFeatures
    agreement: float | None = None


@dataclass(frozen=True)
class PairFit:
    """Result of matching two whole scans.

    Attributes:
        rows: of the pairs table.
        correspondence: the map through the accepted ones; None where they are too few.
        agreement: inlier fraction: rows that the hand-set rule accepts, whether or not the matcher is calibrated.
    """

    rows: PairRows
    correspondence: Correspondence | None
    agreement: float
