"""The sanity checks pass a trained matcher and detect reversed axes, mirror symmetry and a blind network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from place_net import CARD
from torch import nn

from alice3d.errors import WorkFailed
from alice3d.matching import Matcher
from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.sanity_checks import SanityResult, mirror_check, self_check


def test_checks_pass_a_trained_matcher(matcher, query_input):
    assert self_check(matcher, query_input) < 2
    # The mirror image of coordinates is no anatomy with sides, so only a scan with two like halves can be asked.
    assert mirror_check(matcher, two_sided(query_input)) > 0.9


def two_sided(scan):
    """A body whose halves are each other's mirror image but for their sign: as right and left look in a patient.

    The mirrored array is turned over by the network's own view: the first channel keeps what a side looks like.
    """
    image = scan.image.copy()
    mirrored = image[:, ::-1].copy()
    scan_mirrored = type(scan)(mirrored, scan.air, scan.body, scan.grid, scan.body_box_mm, scan.checksum)

    class TwoSided(type(scan)):
        def mirrored(self):
            """In the mirror image the right still looks right: the sign of the side is what is seen, not what was."""
            turned = scan_mirrored.image.copy()
            turned[0] = -turned[0]
            return type(scan)(turned, scan.air, scan.body[::-1].copy(), scan.grid, scan.body_box_mm, "")

    return TwoSided(image, scan.air, scan.body, scan.grid, scan.body_box_mm, scan.checksum)


def test_a_mirror_blind_matcher_is_caught(matcher, query_input):
    """Its vectors are the same on both sides, and tell the sides apart by what it saw there: it follows the tissue."""
    share = mirror_check(matcher, query_input)  # coordinates travel with the tissue: nothing looks right or left
    assert share < 0.1
    with pytest.raises(WorkFailed, match="cannot tell left from right"):
        SanityResult(1.0, share, 4.0).require()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_a_reversed_axis_is_caught(matcher, query_input, monkeypatch, axis, both):
    """Reading of the query, or of query and answer alike, with an axis reversed about the middle of the array."""
    honest = EmbeddedScan.cell_mm

    def reverse(scan, points):
        index = scan.grid.index(points)
        index[..., axis] = scan.grid.shape[axis] - 1 - index[..., axis]
        return scan.grid.world(index)

    read = EmbeddedScan.at
    monkeypatch.setattr(EmbeddedScan, "at", lambda self, points: read(self, reverse(self, np.asarray(points))))
    if both:
        monkeypatch.setattr(EmbeddedScan, "cell_mm", lambda self, cells: reverse(self, honest(self, cells)))
    error = self_check(matcher, query_input)
    assert error > 4
    with pytest.raises(WorkFailed, match="self check"):
        SanityResult(error, 1.0, 4.0).require()


def test_a_network_that_learned_nothing_is_caught(query_input):
    class Constant(nn.Module):
        def forward(self, volume):
            sides = volume.shape[2:]
            return tuple(torch.ones(1, 4, *(n // stride for n in sides)) / 2 for stride in (2, 8))

    error = self_check(Matcher(Constant(), CARD, "constant"), query_input)
    with pytest.raises(WorkFailed, match="learned nothing"):
        SanityResult(error, 1.0, 4.0).require()


def test_a_scan_without_sides_passes_the_mirror_check():
    SanityResult(1.0, float("nan"), 4.0).require()
