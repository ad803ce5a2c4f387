"""One writer for each folder: a lock that names its holder, and that a dead holder does not keep."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from alice3d import console
from alice3d.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: the heartbeat alone says whether a holder is alive
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""File of the lock in the folder; the shards of a job array have one each, `.lock-3-of-8`."""
BEAT_SECONDS = 15.0
"""Seconds between two heartbeats of a holder. Other machines see nothing else of it."""
SILENT_BEATS = 3
"""Heartbeats missed in a row by which a holder on another machine counts as dead."""
LONG_SILENT_SECONDS = 900.0
"""Age of the last heartbeat, by the file system's clock, from which nobody has to wait for the next one."""
WIDTH = 12
"""Digits of the heartbeat's number: the file keeps its length while it is rewritten in place."""
_command = "alice"


def name_command(name: str) -> None:
    """How the holder of a lock is called in messages: the command without its arguments, which may name patients."""
    global _command
    _command = f"alice {name}".strip()


@dataclass(frozen=True)
class Holder:
    """Content of a lock file.

    Attributes:
        pid, host: the process.
        since: local time at which it took the lock.
        command: such as `alice finetune`.
        token: random, of this one lock.
        beat: number of the last heartbeat, `WIDTH` digits.
    """

    pid: int
    host: str
    since: str
    command: str
    token: str
    beat: str = "0" * WIDTH

    def __str__(self) -> str:
        return f"{self.command}, process {self.pid} on {self.host} since {self.since}"


def read_holder(path: Path) -> Holder | None:
    """Who is named in a lock file; None where it is missing, empty or of another form."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Holder(**content)
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def locked(
    folder: Path, shard: tuple[int, int] | None = None, *, wait: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Hold a folder for writing: one writer, or the shards of one job array, each once. The folder must exist.

    On this machine, and on network file systems that lock, the system releases the lock of a process that died. A
    holder on another machine also writes a heartbeat; where it stops, the lock is taken over.

    Args:
        folder: to write to.
        shard: (position from 1, count) of a job array.
        wait: waits some seconds between two looks at a heartbeat.

    Raises:
        UserError: another process writes to it, named in the message; or the lock file cannot be written.
    """
    own = folder / (LOCK if shard is None else f"{LOCK}-{shard[0]}-of-{shard[1]}")
    handle, holder = _take(own, folder, wait)
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(handle, holder, stop), daemon=True)
    try:
        others = [folder / LOCK] if shard is not None else sorted(folder.glob(f"{LOCK}-*-of-*"))
        for other in others:
            _refuse_if_held(other, folder, wait)
            if shard is None:
                other.unlink(missing_ok=True)
        beating.start()
        yield
    finally:
        stop.set()
        if beating.ident is not None:
            beating.join()  # before the handle's number is another file's
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), own.stat()):
                own.unlink()
        os.close(handle)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder as `locked` does; it is made where it is missing, and goes again where it stays empty.

    A folder that this process cannot write to needs no lock.

    Raises:
        UserError: it cannot be made, or as `locked`.
    """
    if folder.is_dir() and not os.access(folder, os.W_OK):
        yield
        return
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
    try:
        with locked(folder):
            yield
    finally:
        with contextlib.suppress(OSError):  # something was written
            for place in missing:
                place.rmdir()


def _take(path: Path, folder: Path, wait: Callable[[float], None]) -> tuple[int, Holder]:
    """The handle that holds the lock, with this process written into the file."""
    while True:
        handle = _opened(path)
        try:
            works = _refuse_if_held(path, folder, wait, handle)
            try:  # its holder may have removed the file after it was opened here
                ours = os.path.samestat(os.fstat(handle), path.stat())
            except FileNotFoundError:
                ours = False
            if ours:
                holder = Holder(
                    os.getpid(),
                    socket.gethostname(),
                    time.strftime("%Y-%m-%d %H:%M:%S"),
                    _command,
                    secrets.token_hex(8),
                )
                _write(handle, holder)
                if not works:  # two may have found the file free: the last to write has it
                    wait(0.2)
                    found = read_holder(path)
                    if found is not None and found.token != holder.token:
                        raise _refusal(folder, path, found)
                return handle, holder
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"{path}: cannot be opened for writing ({error.strerror}); correct its permissions") from None


def _refuse_if_held(path: Path, folder: Path, wait: Callable[[float], None], handle: int | None = None) -> bool:
    """Whether the file system has locks; with a handle the lock is kept, otherwise it is only looked at.

    Raises:
        UserError: a living process holds it.
    """
    own = handle if handle is not None else _existing(path)
    if own is None:
        return True
    try:
        works = fcntl is not None
        if fcntl is not None:
            try:
                fcntl.flock(own, (fcntl.LOCK_SH if handle is None else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _refusal(folder, path, read_holder(path)) from None
            except OSError:  # a file system without locks
                works = False
        holder = read_holder(path)
        if holder is not None and not _is_dead(holder, path, works, wait):
            raise _refusal(folder, path, holder)
        return works
    finally:
        if handle is None:
            os.close(own)


def _existing(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be opened for writing ({error.strerror}); correct its permissions") from None


def _refusal(folder: Path, path: Path, holder: Holder | None) -> UserError:
    who = f": {holder}" if holder is not None else ""
    end = f" (a process that is gone on another machine: remove {path})" if _is_elsewhere(holder) else ""
    return UserError(f"{folder}: another run is writing to it{who}; wait for it, or stop it{end}")


def _is_elsewhere(holder: Holder | None) -> bool:
    return holder is not None and holder.host != socket.gethostname()


def _is_dead(holder: Holder, path: Path, works: bool, wait: Callable[[float], None]) -> bool:
    """Whether the holder named in a lock file, which no lock of the system protects from here, has ended."""
    if not _is_elsewhere(holder):
        if works:  # the system would have kept the lock
            return True
        if os.name == "posix" and not _runs(holder.pid):
            return True
    if _silent_seconds(path) > LONG_SILENT_SECONDS:
        return True
    console.say(
        f"{path.parent}: held by {holder}; waiting up to {BEAT_SECONDS * SILENT_BEATS:.0f} s for a sign of life"
    )
    for _ in range(SILENT_BEATS):
        wait(BEAT_SECONDS)
        now = read_holder(path)
        if now is None:
            return True
        if now != holder:
            return False
    return True


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _silent_seconds(path: Path) -> float:
    """Age of the last heartbeat by the clock of the file system, which may differ from this machine's."""
    probe = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _write(handle: int, holder: Holder) -> None:
    text = json.dumps(asdict(holder)).encode()
    os.lseek(handle, 0, os.SEEK_SET)
    with contextlib.suppress(OSError):  # a full disk: the lock of the system holds all the same
        os.write(handle, text)
        os.ftruncate(handle, len(text))
        os.fsync(handle)


def _beat(handle: int, holder: Holder, stop: threading.Event) -> None:
    """Rewrite the file in place, so that other machines see that its holder lives."""
    number = 0
    while not stop.wait(BEAT_SECONDS):
        number += 1
        _write(handle, Holder(**{**asdict(holder), "beat": f"{number:0{WIDTH}}"}))
