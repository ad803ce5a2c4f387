"""Embeddings on disk: what is read equals what was made, damaged files are rewritten, other embeddings are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from place_net import CARD, PlaceNet

from alice3d.errors import UserError
from alice3d.matching import Matcher
from alice3d.matching.disk_cache import EmbeddingCache


@pytest.mark.parametrize(("precision", "off_mm"), [("fp32", 1e-4), ("fp16", 0.2), ("bf16", 1.5)])
def test_cached_equals_fresh(query_input, key_input, points, tmp_path, precision, off_mm):
    cached = Matcher(PlaceNet(), CARD, "place", cache=EmbeddingCache(tmp_path, precision))
    first = [cached.embed(scan) for scan in (query_input, key_input)]
    second = [cached.embed(scan) for scan in (query_input, key_input)]
    assert len(list(tmp_path.iterdir())) == 2
    for mode in ("direct", "robust"):
        a, b = (cached.match(*scans, points, mode=mode) for scans in (first, second))
        np.testing.assert_array_equal(a.point_mm, b.point_mm)
    plain = Matcher(PlaceNet(), CARD, "place")
    fresh = plain.match(plain.embed(query_input), plain.embed(key_input), points)
    read = cached.match(*second, points)
    np.testing.assert_allclose(read.point_mm, fresh.point_mm, atol=off_mm)
    np.testing.assert_allclose(read.similarity, fresh.similarity, atol=1e-2)
    np.testing.assert_array_equal(second[0].grid.affine, query_input.grid.affine)


def test_half_takes_half_the_space_and_precisions_do_not_mix(query_input, tmp_path):
    sizes = {}
    for precision in ("fp32", "fp16", "bf16"):
        before = set(tmp_path.iterdir())
        Matcher(PlaceNet(), CARD, "place", cache=EmbeddingCache(tmp_path, precision)).embed(query_input)
        (made,) = set(tmp_path.iterdir()) - before
        sizes[precision] = made.stat().st_size
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert sizes["bf16"] == sizes["fp16"]


def test_a_damaged_file_is_made_again(query_input, tmp_path):
    cache = EmbeddingCache(tmp_path)
    matcher = Matcher(PlaceNet(), CARD, "place", cache=cache)
    made = matcher.embed(query_input)
    path = cache.path("place", query_input.checksum)
    path.write_bytes(path.read_bytes()[:-100])
    assert cache.read("place", query_input.checksum) is None
    torch.testing.assert_close(matcher.embed(query_input).fine, made.fine)


def test_the_embedding_of_another_matcher_is_refused(query_input, tmp_path):
    cache = EmbeddingCache(tmp_path)
    Matcher(PlaceNet(), CARD, "one", cache=cache).embed(query_input)
    cache.path("one", query_input.checksum).rename(cache.path("two", query_input.checksum))
    with pytest.raises(UserError, match="another matcher or scan"):
        cache.read("two", query_input.checksum)


def test_embeddings_of_another_matcher_are_refused(query_input, key_input, points):
    own, other = Matcher(PlaceNet(), CARD, "place"), Matcher(PlaceNet(), CARD, "another")
    scans = own.embed(query_input), other.embed(key_input)
    for call in (lambda: own.match(*scans, points), lambda: own.fit(*scans)):
        with pytest.raises(UserError, match="made by another matcher"):
            call()


def test_an_embedding_reaches_another_process_unchanged(matcher, query_input, key_input, points):
    import pickle

    query, key = matcher.embed(query_input), matcher.embed(key_input)
    matcher.match(query, key, points)  # fills what is made of the maps; it does not travel
    sent = pickle.loads(pickle.dumps(key))
    assert set(sent.__dict__) == set(key.__dataclass_fields__)
    for mode in ("direct", "robust"):
        one, two = (matcher.match(query, scan, points, mode=mode) for scan in (key, sent))
        np.testing.assert_array_equal(one.point_mm, two.point_mm)
