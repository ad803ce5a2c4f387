"""Matching as Python calls: files and arrays give one answer, alignment, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from place_net import CARD, MOVE, PlaceNet, noise_like

import alice3d
from alice3d.api import rigid_through
from alice3d.errors import UserError
from alice3d.geometry import Grid, apply_affine
from alice3d.matching import Matcher


def test_public_names_are_there():
    for name in alice3d.__all__:
        assert getattr(alice3d, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = alice3d.nothing


def test_points_map_and_alignment_follow_the_anatomy(matcher, query_input, key_input, points):
    query, key = matcher.embed(query_input), matcher.embed(key_input)
    true = apply_affine(MOVE, points)
    found = alice3d.match(matcher, query, key, points)
    assert np.median(np.linalg.norm(found.point_mm - true, axis=1)) < 2
    carried = alice3d.correspondence(matcher, query, key).map(points)
    assert np.median(np.linalg.norm(carried - true, axis=1)) < 4
    affine = alice3d.align(matcher, query, key, kind="affine")
    assert np.linalg.norm(apply_affine(affine, points) - true, axis=1).max() < 6
    rigid = alice3d.align(matcher, query, key)
    np.testing.assert_allclose(rigid[:3, :3] @ rigid[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rigid[:3, :3]) == pytest.approx(1)
    with pytest.raises(UserError, match="kind is 'elastic'"):
        alice3d.align(matcher, query, key, kind="elastic")


def test_a_rigid_motion_is_found_among_gross_errors(points):
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = points @ turn.T + [5, -8, 20]
    moved[:10] += 60
    affine = rigid_through(points, moved)
    np.testing.assert_allclose(affine[:3, :3], turn, atol=1e-3)
    np.testing.assert_allclose(affine[:3, 3], [5, -8, 20], atol=0.1)


def test_points_outside_are_not_accepted_and_lps_is_recognised(query_input, key_input, points):
    card = {**CARD, "matching": {**CARD["matching"], "acceptance": {"similarity": -1.0, "cycle_mm": 1e6}}}
    matcher = Matcher(PlaceNet(), card, "place")
    query, key = matcher.embed(query_input), matcher.embed(key_input)
    mixed = np.concatenate([points, [[500.0, 0.0, 0.0], [-90.0, -70.0, -80.0]]])
    accepted = alice3d.match(matcher, query, key, mixed).accepted
    assert accepted[: len(points)].all()
    assert not accepted[len(points) :].any()
    shifted = query.grid.affine.copy()
    shifted[:3, 3] += [200, 200, 0]  # the body lies at positive x and y
    moved = matcher.embed(replace(query_input, grid=Grid(query.grid.shape, shifted)))
    with pytest.raises(UserError, match="they are LPS"):
        alice3d.match(matcher, moved, key, (points + np.array([200, 200, 0])) * [-1, -1, 1])


@pytest.mark.parametrize(
    ("points", "message"),
    [([[1, 2]], "has shape"), ([[np.nan, 0, 0]], "NaN or infinity"), ([["a", 0, 0]], "numbers are needed")],
)
def test_faulty_points_are_named(matcher, query_input, key_input, points, message):
    with pytest.raises(UserError, match=message):
        alice3d.match(matcher, matcher.embed(query_input), matcher.embed(key_input), points)


def test_scans_without_common_anatomy_have_no_map(matcher, query_input, points):
    scan = matcher.embed(query_input)
    with pytest.raises(UserError, match="hardly show the same anatomy"):
        alice3d.correspondence(matcher, scan, noise_like(scan))
    found = alice3d.match(matcher, scan, noise_like(scan), points, mode="robust")
    assert found.agreement < 0.1
    assert not found.accepted.any()


def test_embeddings_of_another_matcher_are_refused(matcher, query_input):
    strange = Matcher(PlaceNet(), CARD, "another").embed(query_input)
    with pytest.raises(UserError, match="made by another matcher"):
        alice3d.embed(matcher, strange)


def test_files_and_arrays_give_one_answer(tiny_scans, tmp_path):
    pytest.importorskip("nibabel")
    files = sorted(tiny_scans.images.glob("*.nii.gz"))[:2]
    network = Matcher(_network(), {**CARD, "spacing_mm": [8.0, 8.0, 8.0]}, "tiny")
    arrays = [(np.asarray(image.dataobj), image.affine) for image in map(nib.load, files)]
    centre = np.mean(alice3d.embed(network, files[0]).body_box_mm, axis=0)
    by_file = alice3d.match(network, *files, [centre])
    by_array = alice3d.match(network, *arrays, [centre])
    np.testing.assert_allclose(by_file.point_mm, by_array.point_mm, atol=1e-3)
    with pytest.raises(UserError, match="2D image"):
        alice3d.embed(network, (np.zeros((4, 4)), np.eye(4)))
    with pytest.raises(UserError, match="bad affine"):
        alice3d.embed(network, (arrays[0][0], np.zeros((4, 4))))
    with pytest.raises(UserError, match="NaN or infinite"):
        alice3d.embed(network, (np.full((8, 8, 8), np.nan), np.eye(4)))


def _network():
    import torch

    from alice3d.nn.backbones.registry import build_backbone
    from alice3d.nn.heads.embedding import FPN3D

    torch.manual_seed(0)
    return FPN3D(build_backbone("resunet", 2, CARD["backbone"]["options"]), fine_width=8, coarse_width=8)
