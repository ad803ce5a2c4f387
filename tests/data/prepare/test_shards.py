"""Shards, clusters, dying workers, two writers, checks of a whole store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from alice3d.cli import main
from alice3d.commands.prepare import PrepareConfig, run
from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.prepare.prepare import verify
from alice3d.data.preprocessing.intensity import parse_windows
from alice3d.data.store import Store
from alice3d.data.store.writer import locked
from alice3d.errors import UserError, WorkFailed
from alice3d.executors import cluster, run_batch

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")


def square(number: int) -> int:
    return number * number


def square_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


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
    with locked(tmp_path / "s"), pytest.raises(UserError, match="another alice prepare is writing"):
        prepare(folder, tmp_path / "s", OPTIONS)


@pytest.mark.slow
def test_a_dying_worker_loses_its_own_task_only() -> None:
    results = run_batch(square_or_die, range(8), jobs=2, lost=lambda task: -task)
    assert sorted(results) == [-3, 0, 1, 4, 16, 25, 36, 49]


@pytest.mark.slow
def test_tasks_are_taken_as_workers_get_free() -> None:
    taken = []

    def tasks() -> object:
        for number in range(50):
            taken.append(number)
            yield number

    results = run_batch(square, tasks(), jobs=2, lost=lambda task: -1)  # type: ignore[arg-type]
    next(iter(results))
    assert len(taken) <= 8
    results.close()  # type: ignore[attr-defined]


ENDLESS = """
import os, signal, sys
from pathlib import Path
from alice3d.executors import run_batch
def work(folder):
    (Path(folder) / "worker").write_text(str(os.getpid()))
    signal.pause()
if __name__ == "__main__":
    list(run_batch(work, [sys.argv[1]], jobs=2, lost=str))
"""


def runs(pid: int) -> bool:
    """A process is there, and not merely waiting to be counted as ended."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:  # no /proc here
        return True


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "endless.py"), str(tmp_path)], stderr=subprocess.DEVNULL)
    told = tmp_path / "worker"
    while parent.poll() is None and not (told.exists() and told.read_text()):
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    for _ in range(500):
        if not runs(int(told.read_text())):
            return
        time.sleep(0.02)
    pytest.fail("the worker waits for more")


@pytest.mark.slow
def test_a_dask_cluster_makes_the_same_store(scans: Scans, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    folder = scans("a", "b", "c", labels=True)
    (folder / "cut.nii.gz").write_bytes(b"")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        values = {
            "scans": str(folder),
            "labels": str(tmp_path / "labels"),
            "spacing": "3",
            "modality": "ct",
            "dask": cluster.scheduler_address,
        }
        run(PrepareConfig.checked({**values, "store": str(tmp_path / "dask")}, "prepare"))
    prepare(folder, tmp_path / "here", replace(OPTIONS, labels=tmp_path / "labels"))
    for name in ("index.csv", "SHA256SUMS"):
        assert (tmp_path / "dask" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


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


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("foo", "'foo' is no address of a scheduler; write tcp://HOST:PORT"),
        ("tcp://:1", "is no address"),
        ("ftp://x:1", "is no address"),
        ("tcp://x:port", "is no address"),
        ("tls://x:1", "needs certificates"),
    ],
)
def test_what_is_no_address_of_a_scheduler_is_refused_at_once(
    address: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: pytest.fail("a client was made"))
    with pytest.raises(UserError, match=words), cluster(address):
        pass


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


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_bad_shards(shard: str) -> None:
    with pytest.raises(UserError, match="shard"):
        PrepareConfig.checked({"scans": "x", "store": "y", "shard": shard}, "prepare")
