"""Matching as Python calls on scans of any kind: points, the map between two scans, and their alignment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alice3d.data.pairs.correspondence import Correspondence, robust_weight
from alice3d.data.pairs.table import MIN_ACCEPTED
from alice3d.data.preprocessing.preprocess import prepare_array
from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.errors import UserError
from alice3d.geometry import Affine, Grid, apply_affine, checked_points
from alice3d.io.in_memory import ScanLike, as_label, as_volume, name_of
from alice3d.io.volume import Volume, check_space
from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.landmarks import SAME_ANATOMY
from alice3d.matching.matcher import Matcher, Mode
from alice3d.matching.propagation import VOTE, Atlas, Propagated, carry_labels
from alice3d.matching.results import Matches, PairFit

Scan = ScanLike | EmbeddedScan
"""A scan of any kind, see `io.in_memory`, or one that is embedded already."""
Weights = Matcher | str | os.PathLike[str]
"""A matcher that is loaded, or a shipped name, a folder or a file."""
ALIGN_MM = 8.0
"""Distance from the alignment at which a matched point counts a quarter: organs and joints move by about as much."""


def embed(matcher: Weights, scan: Scan) -> EmbeddedScan:
    """Embed a scan once, to match it many times.

    Args:
        matcher: loaded, or a shipped name, a folder or a file.
        scan: a file; (array, affine): numpy or torch voxels (i, j, k) in the scanner's units (HU for CT) and (4, 4) to
            RAS mm; a nibabel or a SimpleITK image.

    Raises:
        UserError: unreadable, not a volume, of another modality, or the embedding of another matcher.
    """
    made = _loaded(matcher)
    if isinstance(scan, EmbeddedScan):
        if scan.matcher not in ("", made.checksum):
            raise UserError("embedding: made by another matcher (its checksum differs); embed it again by this one")
        return scan
    rule = made.rule
    prepared = prepare_array(as_volume(scan), spacing_mm=made.spacing_mm, modality=rule.modality, name=name_of(scan))
    return made.embed(ScanInput.of_prepared(prepared, rule))


def match(matcher: Weights, query: Scan, key: Scan, points_mm: Any, *, mode: Mode | None = None) -> Matches:
    """Find points of one scan in another.

    >>> matcher = alice3d.Matcher.load("runs/matcher")                                 # doctest: +SKIP
    >>> found = alice3d.match(matcher, "a.nii.gz", "b.nii.gz", [[12.0, -40.0, 105.0]])  # doctest: +SKIP
    >>> found.point_mm, found.accepted                                                 # doctest: +SKIP

    Args:
        matcher: loaded, or a shipped name, a folder or a file.
        query, key: as `embed` takes them.
        points_mm: (n, 3) RAS mm in the query scan.
        mode: direct or robust; None: as the matcher's card says.

    Returns:
        a row a point. Points outside the query's body are not accepted, and none is where the scans hardly show the
        same anatomy (`agreement` below `matching.landmarks.SAME_ANATOMY`).

    Raises:
        UserError: points that are no numbers, or that look like LPS; and as `embed`.
    """
    made = _loaded(matcher)
    points = checked_points(points_mm)
    scan_q, scan_k = embed(made, query), embed(made, key)
    inside = inside_or_lps(scan_q, points)
    found = made.match(scan_q, scan_k, points, mode=mode)
    believed = found.agreement is None or found.agreement >= SAME_ANATOMY
    return replace(found, accepted=found.accepted & inside & believed)


def correspondence(matcher: Weights, query: Scan, key: Scan) -> Correspondence:
    """The smooth map from one scan to another: `map` carries any points, `certainty` says how far it can be trusted.

    Raises:
        UserError: too few matches agree: the scans hardly show the same anatomy; and as `embed`.
    """
    made = _fitted(matcher, query, key).correspondence
    assert made is not None
    return made


def align(matcher: Weights, query: Scan, key: Scan, *, kind: Literal["rigid", "affine"] = "rigid") -> Affine:
    """The (4, 4) that carries RAS mm of the query to RAS mm of the key.

    Args:
        kind: rigid for two scans of one patient; affine for two patients.

    Raises:
        UserError: too few matches agree; and as `embed`.
    """
    if kind not in ("rigid", "affine"):
        raise UserError(f"align: kind is {kind!r}, known are rigid, affine")
    fit = _fitted(matcher, query, key)
    assert fit.correspondence is not None
    if kind == "affine":
        return fit.correspondence.affine
    kept = fit.rows.accepted
    return rigid_through(fit.rows.query_mm[kept], fit.rows.key_mm[kept])


def propagate(
    matcher: Weights,
    atlases: Sequence[tuple[Scan, ScanLike]],
    target: Scan,
    *,
    vote: float = VOTE,
) -> Propagated:
    """Label a scan by the labels of one or a few others.

    >>> made = alice3d.propagate("headneck-ct", [("a.nii.gz", "a_label.nii.gz")], "new.nii.gz")  # doctest: +SKIP
    >>> made.labels                                                                             # doctest: +SKIP

    Args:
        matcher: loaded, or a shipped name, a folder or a file.
        atlases: (scan, label) each; a label holds whole numbers from 0, of any kind that a scan may have.
        target: the scan to label, as `embed` takes it.
        vote: share of the votes that a voxel of a structure needs.

    Returns:
        labels in the target's own grid (of an embedded scan: at the matcher's spacing), and how sure they are.

    Raises:
        UserError: no atlas shows the target's anatomy; and as `embed`.
    """
    made = _loaded(matcher)
    known = []
    for scan, label in atlases:
        told = as_label(label)
        known.append(Atlas(embed(made, scan), told.array, _grid(told)).cropped())
    if isinstance(target, EmbeddedScan):
        return carry_labels(made, known, embed(made, target), target.grid, vote=vote)
    volume = as_volume(target)
    return carry_labels(made, known, embed(made, volume), _grid(volume), vote=vote)


def _grid(volume: Volume) -> Grid:
    x, y, z = volume.array.shape
    return Grid((x, y, z), check_space(volume.affine, "array"))


def rigid_through(query_mm: NDArray[Any], key_mm: NDArray[Any]) -> Affine:
    """The rotation and shift (4, 4) that most matched points (n, 3) agree on: Kabsch (1976), reweighted."""
    query, key = np.asarray(query_mm, np.float64), np.asarray(key_mm, np.float64)
    weight = np.ones(len(query))
    affine = np.eye(4)
    for _ in range(20):
        centre_q, centre_k = weight @ query / weight.sum(), weight @ key / weight.sum()
        u, _, vt = np.linalg.svd(((key - centre_k) * weight[:, None]).T @ (query - centre_q))
        turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
        affine[:3, :3] = turn
        affine[:3, 3] = centre_k - turn @ centre_q
        weight = robust_weight(np.linalg.norm(apply_affine(affine, query) - key, axis=1), ALIGN_MM) + 1e-6
    return affine


def inside_or_lps(scan: EmbeddedScan, points_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points (n, 3) lie in the scan's body.

    Raises:
        UserError: most lie outside, and most would lie inside with x and y negated.
    """
    inside = scan.in_body(points_mm)
    if len(inside) and inside.mean() < 0.5 and scan.in_body(points_mm * [-1, -1, 1]).mean() > 0.5:
        raise UserError(
            f"points_mm: {(~inside).sum()} of {len(inside)} lie outside the query's body, and inside once x and y "
            "change sign: they are LPS (ITK, DICOM); give RAS, with x and y negated"
        )
    return inside


def _loaded(matcher: Weights) -> Matcher:
    return matcher if isinstance(matcher, Matcher) else Matcher.load(matcher)


def _fitted(matcher: Weights, query: Scan, key: Scan) -> PairFit:
    """A fit that holds a map."""
    made = _loaded(matcher)
    fit = made.fit(embed(made, query), embed(made, key))
    if fit.correspondence is None:
        raise UserError(
            f"{int(fit.rows.accepted.sum())} of {len(fit.rows)} matches agree, {MIN_ACCEPTED} are needed for a map: "
            "the scans hardly show the same anatomy, or the matcher is not made for them"
        )
    return fit
