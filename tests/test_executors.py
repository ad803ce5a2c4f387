"""Pools of processes and clusters: work is taken as workers get free, and a dying worker costs its own task alone."""

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

from alice3d.commands.prepare import PrepareConfig, run
from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.errors import UserError
from alice3d.executors import Workers, cluster, run_batch

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")
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


def square(number: int) -> int:
    return number * number


def square_or_die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


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
    written = tmp_path / "worker"
    while parent.poll() is None and not (written.exists() and written.read_text()):
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    for _ in range(500):
        if not runs(int(written.read_text())):
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


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("foo", "'foo' is not an address of a scheduler; write tcp://HOST:PORT"),
        ("tcp://:1", "is not an address"),
        ("ftp://x:1", "is not an address"),
        ("tcp://x:port", "is not an address"),
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


_opened: list[int] = []


def open_once(number: int) -> None:
    _opened.append(number)


def opened_and(task: int) -> int:
    assert len(_opened) == 1, "opened once in each process"
    return _opened[0] * task


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_workers_stay_for_several_batches(jobs: int) -> None:
    _opened.clear()
    with Workers(jobs, opening=open_once, arguments=(7,)) as workers:
        for tasks in ([1, 2, 3], [4, 5]):
            assert sorted(workers.run(opened_and, tasks, lost=lambda task: -1)) == [7 * task for task in tasks]
