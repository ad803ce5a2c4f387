"""Fixtures of the matching tests."""

from __future__ import annotations

import numpy as np
import pytest
from place_net import CARD, MOVE, PlaceNet, scan_of

from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.matching import Matcher


@pytest.fixture
def query_input() -> ScanInput:
    return scan_of(np.eye(4), (48, 36, 42), (-96.0, -72.0, -84.0), "query")


@pytest.fixture
def key_input() -> ScanInput:
    return scan_of(np.linalg.inv(MOVE), (52, 38, 44), (-96.0, -88.0, -70.0), "key")


@pytest.fixture
def matcher() -> Matcher:
    return Matcher(PlaceNet(), CARD, "place")


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).uniform([-45, -30, -40], [45, 30, 40], (60, 3))
