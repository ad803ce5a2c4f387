"""Locks of folders: one writer, named to others; a dead holder does not keep its lock."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from alice3d import locks
from alice3d.errors import UserError
from alice3d.locks import LOCK, locked, read_holder

SPAWN = multiprocessing.get_context("spawn")


def hold(folder: Path, pipe: Connection) -> None:
    with locked(folder):
        pipe.send("held")
        pipe.recv()


def holder(folder: Path) -> Any:
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=hold, args=(folder, there))
    process.start()
    assert here.recv() == "held"
    return process, here


def foreign(path: Path, **changes: Any) -> None:
    """What a process of another machine has written."""
    about = {"pid": 7, "host": "node-7", "since": "2026-01-01 10:00:00", "command": "alice pretrain", "token": "t"}
    path.write_text(json.dumps({**about, "beat": "0" * 12, **changes}))


def test_a_living_process_is_named_and_a_killed_one_is_not_waited_for(tmp_path: Path) -> None:
    process, _ = holder(tmp_path)
    said = rf"another run is writing to it: alice, process {process.pid} on {socket.gethostname()} since 20.*; wait for"
    with pytest.raises(UserError, match=said), locked(tmp_path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert read_holder(tmp_path / LOCK).pid == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_process_that_ended_well_is_gone(tmp_path: Path) -> None:
    process, pipe = holder(tmp_path)
    pipe.send("end")
    process.join()
    assert list(tmp_path.iterdir()) == []


def test_the_command_is_named_without_its_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_command", "alice")
    locks.name_command("finetune")
    with locked(tmp_path), pytest.raises(UserError, match="writing to it: alice finetune, process"), locked(tmp_path):
        pass


def test_another_machine_that_gives_signs_of_life_keeps_its_lock(tmp_path: Path) -> None:
    foreign(tmp_path / LOCK)

    def beat(seconds: float) -> None:
        foreign(tmp_path / LOCK, beat="1".zfill(12))

    with pytest.raises(UserError, match=r"process 7 on node-7 .*remove .*\.lock"), locked(tmp_path, wait=beat):
        pass
    assert read_holder(tmp_path / LOCK).host == "node-7"


def test_another_machine_that_is_silent_loses_its_lock(tmp_path: Path) -> None:
    foreign(tmp_path / LOCK)
    waited: list[float] = []
    with locked(tmp_path, wait=waited.append):
        assert read_holder(tmp_path / LOCK).pid == os.getpid()
    assert len(waited) == locks.SILENT_BEATS


def test_a_lock_that_is_silent_for_long_is_not_waited_for(tmp_path: Path) -> None:
    foreign(tmp_path / LOCK)
    os.utime(tmp_path / LOCK, (0, 0))
    with locked(tmp_path, wait=lambda seconds: pytest.fail("waited")):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_lock_file_holds_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path):
        pass


def test_where_the_system_has_no_locks_the_file_alone_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    foreign(tmp_path / LOCK, host=socket.gethostname(), pid=2**22 + 1)  # no such process
    with locked(tmp_path, wait=lambda seconds: None):
        pass
    foreign(tmp_path / LOCK, host=socket.gethostname(), pid=os.getpid())

    def beat(seconds: float) -> None:
        foreign(tmp_path / LOCK, host=socket.gethostname(), pid=os.getpid(), beat="1".zfill(12))

    with pytest.raises(UserError, match="another run"), locked(tmp_path, wait=beat):
        pass


def test_the_heartbeat_changes_the_file_in_place(tmp_path: Path) -> None:
    with locked(tmp_path):
        before = (tmp_path / LOCK).stat()
        known = read_holder(tmp_path / LOCK)
        handle = os.open(tmp_path / LOCK, os.O_RDWR)
        locks._write(handle, locks.Holder(**{**vars(known), "beat": "1".zfill(12)}))
        os.close(handle)
        after = read_holder(tmp_path / LOCK)
        assert after != known
        assert after.token == known.token
        assert (tmp_path / LOCK).stat().st_ino == before.st_ino
