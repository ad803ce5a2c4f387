"""Matches against known positions, one against many, blocks against whole, robust against gross errors."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from place_net import CARD, MOVE, PlaceNet

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.errors import UserError
from alice3d.geometry import apply_affine
from alice3d.matching import Matcher, embedding, search
from alice3d.matching.embedding import embed_image
from alice3d.matching.matcher import body_points
from alice3d.matching.search import search_all, search_near
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.embedding import FPN3D


@pytest.mark.parametrize("mode", ["direct", "robust"])
def test_points_are_found_where_the_anatomy_lies(matcher, query_input, key_input, points, mode):
    query, key = matcher.embed(query_input), matcher.embed(key_input)
    found = matcher.match(query, key, points, mode=mode)
    error = np.linalg.norm(found.point_mm - apply_affine(MOVE, points), axis=1)
    assert np.median(error) < 1.5  # cells are 8 mm
    assert error.max() < 4
    assert np.median(found.cycle_mm) < 2
    assert found.similarity.min() > 0.9
    assert found.accepted.all()


@pytest.mark.parametrize("mode", ["direct", "robust"])
def test_a_batch_equals_its_points_alone(matcher, query_input, key_input, points, mode):
    query, key = matcher.embed(query_input), matcher.embed(key_input)
    together = matcher.match(query, key, points[:5], mode=mode)
    for n in range(5):
        alone = matcher.match(query, key, points[n], mode=mode)
        for field in ("point_mm", "similarity", "cycle_mm", "certainty"):
            np.testing.assert_allclose(getattr(alone, field)[0], getattr(together, field)[n], atol=1e-3)


def test_no_points_give_no_matches(matcher, query_input, key_input):
    query, key = matcher.embed(query_input), matcher.embed(key_input)
    for mode in ("direct", "robust"):
        assert matcher.match(query, key, np.zeros((0, 3)), mode=mode).point_mm.shape == (0, 3)


def test_large_scans_are_searched_in_blocks_with_the_same_result(matcher, query_input, key_input, points, monkeypatch):
    query, key = matcher.embed(query_input), matcher.embed(key_input)
    whole = search_all(query.at(points), key)
    monkeypatch.setattr(embedding, "KEPT_BYTES", 0)
    monkeypatch.setattr(embedding, "CELLS", 500)
    again = matcher.embed(key_input)
    np.testing.assert_allclose(search_all(query.at(points), again), whole, atol=1e-3)
    cells = again.cells[::37]
    torch.testing.assert_close(again.at_cells(cells), key.at_cells(cells), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [2, 7, 59])
def test_points_are_refined_in_blocks_with_the_same_result(matcher, query_input, key_input, points, monkeypatch, rows):
    """To the bit, and no tensor of neighbours' vectors is larger than one block's."""
    query, key = matcher.embed(query_input), matcher.embed(key_input)
    vectors = query.at(points)
    whole = search.refine(vectors, key, search.best_cells(vectors, key))
    read = []
    at_cells = embedding.EmbeddedScan.at_cells

    def counting(scan, cells):
        read.append(cells.shape[:-1].numel())
        return at_cells(scan, cells)

    monkeypatch.setattr(embedding.EmbeddedScan, "at_cells", counting)
    monkeypatch.setattr(search, "SIMILARITIES", rows * 27 * vectors.shape[1])
    np.testing.assert_array_equal(search_all(vectors, key), whole)
    assert len(read) == -(-len(points) // rows)
    assert max(read) <= rows * 27


def test_robust_mode_overrules_gross_errors(matcher, query_input, key_input, points):
    """Two blocks of the key have changed places: direct matches jump there, the fit over many points does not."""
    image = key_input.image.copy()
    image[:, 30:40, 12:24, 14:26] = key_input.image[:, 14:24, 12:24, 14:26]
    image[:, 14:24, 12:24, 14:26] = key_input.image[:, 30:40, 12:24, 14:26]
    query, key = matcher.embed(query_input), matcher.embed(dataclasses.replace(key_input, image=image))
    true = apply_affine(MOVE, points)
    index = key_input.grid.index(true)
    hit = ((index > [31, 13, 15]) & (index < [38, 22, 24])).all(axis=1)
    assert hit.sum() >= 2
    direct = np.linalg.norm(matcher.match(query, key, points, mode="direct").point_mm - true, axis=1)
    robust = matcher.match(query, key, points, mode="robust")
    assert np.median(direct[hit]) > 40
    assert np.linalg.norm(robust.point_mm - true, axis=1)[hit].max() < 20
    assert robust.agreement > 0.5


def test_points_whose_anatomy_is_out_of_the_key_are_not_accepted(matcher, query_input, key_input, points):
    """The upper half of the key is cut off."""
    half = 22
    cut = dataclasses.replace(
        key_input,
        image=key_input.image[..., :half],
        body=key_input.body[..., :half],
        grid=key_input.grid.crop(np.zeros(3), np.array([*key_input.grid.shape[:2], half])),
    )
    query, key = matcher.embed(query_input), matcher.embed(cut)
    true = apply_affine(MOVE, points)
    gone = ~cut.grid.contains(true, margin_voxels=-3)
    there = cut.grid.contains(true, margin_voxels=-8)
    for mode in ("direct", "robust"):
        found = matcher.match(query, key, points, mode=mode)
        far = gone & (np.linalg.norm(found.point_mm - true, axis=1) > 15)
        assert far.sum() > 5
        assert not found.accepted[far].any()
        assert found.accepted[there].mean() > 0.9


def test_scans_of_another_place_agree_on_nothing(matcher, query_input, key_input, points):
    rng = np.random.default_rng(0)
    noise = dataclasses.replace(key_input, image=rng.uniform(-80, 80, key_input.image.shape).astype(np.float32))
    found = matcher.match(matcher.embed(query_input), matcher.embed(noise), points, mode="robust")
    assert found.agreement < 0.15
    assert found.accepted.mean() < 0.1


def test_search_near_stays_within_reach_and_reads_the_peak_there(matcher, query_input, key_input, points):
    query, key = matcher.embed(query_input), matcher.embed(key_input)
    true = apply_affine(MOVE, points)
    found = search_near(query.at(points), key, true + 6.0, reach=2, pull=0.0)
    assert np.median(np.linalg.norm(found - true, axis=1)) < 2
    far = search_near(query.at(points), key, true + 20.0, reach=1, pull=0.0)
    assert (np.abs(far - (true + 20.0)).max(axis=1) < 2.5 * 8).all()


@pytest.mark.parametrize("shape", [(64, 40, 72), (37, 50, 61)])
def test_tiles_equal_the_whole_scan_where_they_see_enough(shape):
    torch.manual_seed(0)
    backbone = build_backbone("resunet", 2, {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1]})
    network = FPN3D(backbone, fine_width=8, coarse_width=8).eval()
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    air = np.full(2, -1.0, np.float32)
    whole = embed_image(network, image, air)
    tiled = embed_image(network, image, air, whole_voxels=0, tile=16, halo=48)
    for one, other in zip(whole, tiled, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_body_points_are_many_as_asked_and_in_the_body(matcher, query_input):
    scan = matcher.embed(query_input)
    for count in (100, 400):
        found = body_points(scan, count)
        assert 0.7 * count < len(found) < 1.4 * count
        assert scan.in_body(found, margin=0).all()


def test_points_in_air_or_outside_are_not_in_the_body(matcher, query_input):
    scan = matcher.embed(query_input)
    at = np.array([[0.0, 0.0, 0.0], [-90.0, -65.0, -78.0], [500.0, 0.0, 0.0]])
    assert scan.in_body(at).tolist() == [True, False, False]


def test_unknown_mode_in_a_card_is_refused():
    with pytest.raises(UserError, match=r"matching\.mode is 'magic'"):
        Matcher(PlaceNet(), {**CARD, "matching": {"mode": "magic"}}, "x")


def test_other_spacing_and_windows_of_a_store_are_said(matcher):
    def note(spacing, windows):
        spec = SimpleNamespace(spacing_mm=spacing, intensity=IntensityRule(windows=windows))
        return matcher.reading_note(SimpleNamespace(spec=spec))

    own = matcher.rule.windows
    assert note((4.0, 4.0, 4.0), own) == ""
    assert "from 1 x 1 x 2.5 mm to the matcher's 4 x 4 x 4 mm" in note((1.0, 1.0, 2.5), own)
    assert "the matcher's own windows, -200 to 300, -1000 to 1000 HU" in note((4.0, 4.0, 4.0), ((0.0, 80.0),))
