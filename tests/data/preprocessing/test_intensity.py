"""Windows of CT: by name and number, kept in the store, and no voxel changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.preprocessing.intensity import parse_windows
from alice3d.data.store import Store
from alice3d.errors import UserError

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")


def test_windows_by_name_and_number() -> None:
    assert parse_windows("soft_tissue, lung") == ((-160, 240), (-1350, 150))
    assert parse_windows("-200:300,bone") == ((-200, 300), (-500, 1300))
    for text, words in (
        ("lungs", "did you mean 'lung'"),
        ("3:1", "low 3 must lie below"),
        ("1:nan", "low"),
        ("1", "1"),
    ):
        with pytest.raises(UserError, match=words):
            parse_windows(text)


def test_windows_are_kept_in_the_store_and_change_no_voxel(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a")
    prepare(folder, tmp_path / "s", replace(OPTIONS, windows=parse_windows("soft_tissue,lung,bone")))
    prepare(folder, tmp_path / "t", OPTIONS)
    one, other = Store.open(tmp_path / "s"), Store.open(tmp_path / "t")
    assert one.spec.intensity.channels == 3
    assert one.checksum == other.checksum
    with pytest.raises(UserError, match="windows"):
        prepare(folder, tmp_path / "s", replace(OPTIONS, windows=parse_windows("brain")))
