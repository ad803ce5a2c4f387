"""Fixtures that several parts share: a tiny store of generated patients."""

from __future__ import annotations

from pathlib import Path

import pytest

from alice3d.phantom.files import PhantomFiles, write_phantoms

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
