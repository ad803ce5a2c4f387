"""Fixtures of the tests of reading and preparing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scan_files import affine_of, head_like, write_nifti


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
