"""Finds landmarks in a scan from examples in others; several examples of one landmark are combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.sources.scan_list import ScanList
from alice3d.io.volume import ScanError
from alice3d.matching.batch import embed_scan
from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.matcher import Matcher, prior_weight
from alice3d.memory import within_memory

AGREE_MM = 10.0
"""Matches from several examples within this distance of one another count as one position."""
SAME_ANATOMY = 0.35
"""Below this inlier fraction two scans hardly show the same anatomy, and no match between them is accepted.
Measured with a head-and-neck matcher: 0.65 to 1.0 between 24 pairs of head-and-neck scans, 0.05 to 0.31 between two
torso scans and six of them. A small scan inside a large one gets half of the inlier fraction of its own points."""


@dataclass(frozen=True, eq=False)
class Example:
    """A scan with landmarks.

    Attributes:
        scan: its embedding.
        points_mm: structure to (3,) RAS mm.
    """

    scan: EmbeddedScan
    points_mm: dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class FoundLandmark:
    """A landmark found in a scan.

    Attributes:
        structure: its name.
        point_mm: (3,) RAS mm.
        similarity, cycle_mm: of the match with most agreement.
        accepted: whether it is reliable.
    """

    structure: str
    point_mm: NDArray[np.float64]
    similarity: float
    cycle_mm: float
    accepted: bool


def find_landmarks(
    matcher: Matcher, examples: Sequence[Example], target: EmbeddedScan
) -> tuple[list[FoundLandmark], float | None]:
    """Find every structure of the examples in a scan.

    Each example of the structure gives one match. The match to which the others are nearest is chosen, and those
    within `AGREE_MM` of it are averaged, weighted by similarity and cycle error. The result is accepted if that match
    is, and at least half of the weight agrees with it.

    Returns:
        one landmark per structure, sorted by name; and the best inlier fraction of the target with an example (see
        `Matches`; None in direct mode).
    """
    proposals: dict[str, list[tuple[NDArray[np.float64], float, float, bool]]] = {}
    agreements = []
    for example in examples:
        names = sorted(example.points_mm)
        found = matcher.match(example.scan, target, np.stack([example.points_mm[name] for name in names]))
        agreements.append(found.agreement)
        believed = found.agreement is None or found.agreement >= SAME_ANATOMY
        for n, name in enumerate(names):
            row = (found.point_mm[n], float(found.similarity[n]), float(found.cycle_mm[n]), bool(found.accepted[n]))
            proposals.setdefault(name, []).append((*row[:3], row[3] and believed))
    known = [agreement for agreement in agreements if agreement is not None]
    return [_settled(name, proposals[name]) for name in sorted(proposals)], max(known) if known else None


def _settled(name: str, proposals: Sequence[tuple[Any, float, float, bool]]) -> FoundLandmark:
    points = np.stack([point for point, *_ in proposals])
    similarity, cycle = (np.array([row[n] for row in proposals]) for n in (1, 2))
    accepted = np.array([row[3] for row in proposals])
    # An accepted match outweighs any number of similar ones that are not accepted.
    weight = prior_weight(similarity, cycle) * np.where(accepted, 1.0, 0.1)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    cost = np.minimum(apart, 3 * AGREE_MM) @ weight - weight * AGREE_MM
    best = int(np.argmin(cost))
    near = apart[best] <= AGREE_MM
    place = weight[near] @ points[near] / weight[near].sum()
    sure = bool(accepted[best]) and weight[near].sum() >= 0.5 * weight.sum()
    return FoundLandmark(name, place, float(similarity[best]), float(cycle[best]), sure)


@dataclass(frozen=True, eq=False)
class LandmarkSearch:
    """The search of `alice landmarks`, one scan at a time (`batch.ScanWork`).

    Attributes:
        scans: those that are searched.
        examples: case id to example.
        among: the examples are among the scans searched, under the same ids.
    """

    scans: ScanList
    examples: dict[str, Example]
    among: bool

    def on(self, matcher: Matcher, id: str) -> dict[str, Any]:
        """The landmarks of one scan; landmarks that were given for this scan are returned unchanged."""
        example = self.examples.get(id) if self.among else None
        own = example.points_mm if example is not None else {}
        others = [one for one in self.examples.values() if one is not example]
        try:
            with within_memory(partial(ScanError, id)):
                target = example.scan if example is not None else embed_scan(self.scans, id, matcher)
                found, agreement = find_landmarks(matcher, others, target) if others else ([], None)
        except ScanError as error:
            return {"reason": error.reason}
        points = [
            [one.structure, *map(float, one.point_mm), one.similarity, one.cycle_mm, int(one.accepted)]
            for one in found
            if one.structure not in own
        ]
        points += [[name, *map(float, point), 1.0, 0.0, 1] for name, point in own.items()]
        return {"points": sorted(points), "agreement": agreement}
