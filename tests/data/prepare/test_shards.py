"""Shards, two writers, checks of a whole store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from alice3d.cli import main
from alice3d.commands.prepare import PrepareConfig, run
from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.prepare.prepare import verify
from alice3d.data.store import Store
from alice3d.errors import UserError, WorkFailed
from alice3d.locks import locked

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")


def test_shards_merge_into_the_store_that_one_call_makes(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b", "c", "d", "e", labels=True)
    (folder / "cut.nii.gz").write_bytes(b"")
    options = replace(OPTIONS, labels=tmp_path / "labels")
    for part in (2, 1, 3):
        prepare(folder, tmp_path / "parts", replace(options, shard=(part, 3)))
    assert len(Store.open(tmp_path / "parts").cases()) == 5
    assert prepare(folder, tmp_path / "parts", options)["added"] == 0
    prepare(folder, tmp_path / "whole", options)
    for name in ("index.csv", "SHA256SUMS", "splits.json", "store.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert verify(tmp_path / "parts")["files"] == 10


def test_more_shards_than_scans(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a")
    assert prepare(folder, tmp_path / "s", replace(OPTIONS, shard=(2, 2)))["taken"] == 0
    assert prepare(folder, tmp_path / "s", replace(OPTIONS, shard=(1, 2)))["taken"] == 1


def test_two_calls_on_one_store(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a")
    prepare(folder, tmp_path / "s", OPTIONS)
    with locked(tmp_path / "s"), pytest.raises(UserError, match="another run is writing to it"):
        prepare(folder, tmp_path / "s", OPTIONS)


def test_damage_is_found_and_mended(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b")
    prepare(folder, tmp_path / "s", OPTIONS)
    before = Store.open(tmp_path / "s").checksum
    path = tmp_path / "s" / "images" / "a.b2nd"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    values = {"scans": str(folder), "store": str(tmp_path / "s"), "verify": True}
    with pytest.raises(WorkFailed, match=r"images/a\.b2nd has changed"):
        run(PrepareConfig.checked(values, "prepare"))
    assert main(["prepare", "--verify", str(tmp_path / "s")]) == 1
    path.unlink()
    assert prepare(folder, tmp_path / "s", OPTIONS)["added"] == 1
    assert main(["prepare", str(tmp_path / "s"), "--verify"]) == 0
    assert main(["prepare", str(tmp_path / "s")]) == 2
    assert verify(tmp_path / "s") == {"files": 2, "store": str(tmp_path / "s")}
    assert Store.open(tmp_path / "s").checksum == before


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_bad_shards(shard: str) -> None:
    with pytest.raises(UserError, match="shard"):
        PrepareConfig.checked({"scans": "x", "store": "y", "shard": shard}, "prepare")
