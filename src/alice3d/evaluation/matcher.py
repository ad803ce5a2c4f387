"""Evaluate a matcher on the landmarks of a store: errors, baselines, intervals, and refusal of points out of view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from alice3d import console
from alice3d.data.store import Store
from alice3d.data.tables.landmarks import Landmarks, check_convention
from alice3d.evaluation.calibration import measure
from alice3d.evaluation.field_of_view import draw_cuts, refusal
from alice3d.evaluation.landmarks import PointErrors, landmark_errors, summarise
from alice3d.matching.disk_cache import EmbeddingCache
from alice3d.matching.matcher import Matcher
from alice3d.matching.memory_cache import EmbeddedCases
from alice3d.matching.untrained import untrained_matcher

QUERIES = 2
"""Scans that are matched with each cropped scan."""


def evaluate_matcher(
    matcher: Matcher,
    store: Store,
    landmarks: Landmarks,
    pairs: list[tuple[str, str]],
    *,
    table: Path,
    scratch: Path,
    baselines: bool = True,
    cuts: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Match the landmarks of all pairs of cases, with progress bars.

    Args:
        matcher: in the mode that is evaluated.
        store: of the cases.
        landmarks: of the cases.
        pairs: (query, key) case ids.
        table: file of the landmarks, named in messages.
        scratch: folder for embeddings of the untrained network.
        baselines: also match by a network with random weights.
        cuts: times that each scan is cropped so that one of its landmarks lies outside; 0 = not.
        seed: of random weights, crops and resamples.

    Returns:
        the keys of `alice evaluate-matcher --json`.

    Raises:
        UserError: most landmarks lie outside the bodies: their axes are not RAS.
    """
    scans, untrained = EmbeddedCases(matcher, store), None
    if baselines:
        cases = [store.case(name) for name in sorted(landmarks.points_mm)]
        random = untrained_matcher(matcher, store, cases, seed=seed)
        random.cache = EmbeddingCache(scratch)
        untrained = EmbeddedCases(random, store)
    _embed(landmarks, scans, untrained)
    check_convention(table, landmarks, lambda case, points: scans[case].in_body(points, margin=0))
    with console.progress("Matching", len(pairs)) as bar:
        errors = landmark_errors(scans, untrained, landmarks, pairs, done=bar.advance)
    result = summarise(errors, skipped_cases=len(landmarks.skipped), seed=seed, patients=store.patients)
    result["outside_points"] = len(landmarks.outside)
    result["mode"] = matcher.mode
    if cuts:
        result["field_of_view"] = _out_of_view(scans, landmarks, errors, cuts, seed)
    return result


def _embed(landmarks: Landmarks, scans: EmbeddedCases, untrained: EmbeddedCases | None) -> None:
    """Embed every case once, with a progress bar."""
    cases = sorted(landmarks.points_mm)
    with console.progress("Embedding scans", len(cases)) as bar:
        for case in cases:
            scans[case]
            if untrained is not None:
                untrained[case]
            bar.advance()


def _out_of_view(
    scans: EmbeddedCases, landmarks: Landmarks, errors: PointErrors, per_case: int, seed: int
) -> dict[str, Any]:
    """Match with cropped key scans: how many points outside are refused, how many good matches kept."""
    cuts = draw_cuts(landmarks, per_case=per_case, queries=QUERIES, seed=seed)
    kind = scans.matcher.mode
    with console.progress("Matching with cropped scans", sum(len(cut.queries) for cut in cuts)) as bar:
        cut = measure(scans, landmarks, [], cuts, (kind,), done=bar.advance).get(kind)
    if cut is None:
        return {}
    count = len(errors.error_mm)
    return refusal(
        np.concatenate([errors.error_mm, cut.error_mm]),
        np.concatenate([errors.accepted, scans.matcher.confidence.estimate(kind, cut.features).accepted]),
        np.concatenate([np.full(count, -np.inf), cut.outside_mm]),
        np.concatenate([np.ones(count, bool), cut.whole]),
    )
