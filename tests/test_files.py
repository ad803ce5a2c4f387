"""Files are replaced whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alice3d import files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "scan.nii.gz"
    with files.replacing(path) as temporary:
        assert temporary.name.startswith(files.UNFINISHED)
        assert temporary.name.endswith(".nii.gz")  # writers choose the format by it
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    assert path.stat().st_mode & 0o777 == 0o644

    def fail() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("half of the sec")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_key_that_is_there_twice_is_no_valid_content():
    assert json.loads('{"a": 1, "b": {"a": 2}}', object_pairs_hook=files.unique_keys) == {"a": 1, "b": {"a": 2}}
    with pytest.raises(ValueError, match="the key 'a' is there twice"):
        json.loads('{"a": 1, "b": 2, "a": 3}', object_pairs_hook=files.unique_keys)
