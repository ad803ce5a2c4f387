"""Fixtures that several parts share: generated patients, their store, small scans as files, and matchers.

This folder is on the path of every test, so helpers beside this file are imported by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from place_net import CARD, MOVE, PlaceNet, scan_of
from scan_files import affine_of, head_like, write_nifti

from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.matching import Matcher
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.embedding import FPN3D
from alice3d.phantom.files import PhantomFiles, write_phantoms
from alice3d.weights.files import save_weights

TINY_SPLITS = {"pretrain": 4, "train": 2, "val": 1, "test": 2}


@pytest.fixture(scope="session")
def tiny_scans(tmp_path_factory: pytest.TempPathFactory) -> PhantomFiles:
    """Nine generated patients at 8 to 9 mm: about 45 x 30 x 50 voxels each."""
    return write_phantoms(tmp_path_factory.mktemp("scans"), TINY_SPLITS, seed=3, spacing_mm=(8.0, 9.0))


@pytest.fixture(scope="session")
def tiny_store(tiny_scans: PhantomFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of them at 8 mm."""
    from alice3d.commands.prepare import PrepareConfig, run

    store = tmp_path_factory.mktemp("stores") / "tiny"
    run(
        PrepareConfig(
            scans=tiny_scans.images,
            store=store,
            labels=tiny_scans.labels,
            splits=tiny_scans.splits,
            label_names=str(tiny_scans.label_names),
            spacing="8",
        )
    )
    return store


@pytest.fixture(scope="session")
def tiny_matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained network at 8 mm that believes everything it finds."""
    folder = tmp_path_factory.mktemp("matchers") / "tiny"
    options = {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1]}
    torch.manual_seed(0)
    network = FPN3D(build_backbone("resunet", 2, options), fine_width=8, coarse_width=8)
    anything = {"similarity": -1.0, "cycle_mm": 1e6, "fit_mm": 1e6, "certainty": 0.0}
    card = {
        "backbone": {"name": "resunet", "in_channels": 2, "options": options},
        "spacing_mm": [8.0, 8.0, 8.0],
        "intensity": {"modality": "ct"},
        "cases": [],
        "matching": {"mode": "robust", "fine_width": 8, "coarse_width": 8, "acceptance": anything},
    }
    save_weights(folder, "matcher", network.state_dict(), card)
    json.loads((folder / "matcher.json").read_text())
    return folder


@pytest.fixture
def scans(tmp_path: Path) -> Callable[..., Path]:
    """`scans("a", "b")` writes head-like CTs into a folder and gives it."""

    def make(*names: str, folder: str = "scans", labels: bool = False, axes: str = "RAS", **more: Any) -> Path:
        for number, name in enumerate(names):
            image = head_like(seed=number, **more)
            write_nifti(tmp_path / folder / f"{name}.nii.gz", image, affine_of(axes=axes))
            if labels:
                write_nifti(
                    tmp_path / "labels" / f"{name}.nii.gz", (image > 500).astype(np.uint8), affine_of(axes=axes)
                )
        return tmp_path / folder

    return make


@pytest.fixture
def query_input() -> ScanInput:
    """A scan that `matcher` finds every place of."""
    return scan_of(np.eye(4), (48, 36, 42), (-96.0, -72.0, -84.0), "query")


@pytest.fixture
def key_input() -> ScanInput:
    """The same anatomy, moved, on another grid."""
    return scan_of(np.linalg.inv(MOVE), (52, 38, 44), (-96.0, -88.0, -70.0), "key")


@pytest.fixture
def matcher() -> Matcher:
    """A matcher whose network knows places by construction."""
    return Matcher(PlaceNet(), CARD, "place")


@pytest.fixture
def points() -> np.ndarray:
    """Points in RAS mm within the anatomy of `query_input`, (60, 3)."""
    return np.random.default_rng(0).uniform([-45, -30, -40], [45, 30, 40], (60, 3))
