"""Console output: lines, warnings and progress. Standard output belongs to results, progress to standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

_json_only = False
SECONDS_BETWEEN_LINES = 15.0
"""Plain progress (no terminal) prints at most this often."""
NAMES: tuple[Literal["stdin", "stdout", "stderr"], ...] = ("stdin", "stdout", "stderr")


def open_streams() -> None:
    """Give this process standard streams that take any text, whoever started it.

    A stream that is closed is opened onto nothing: otherwise the next file would get its number, and with it what a
    library prints. Characters that a code page lacks are written as escapes.
    """
    for number, name in enumerate(NAMES):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(handle, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):  # replaced by a host program, or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def write(text: str, name: Literal["stdout", "stderr"] = "stdout", end: str = "\n") -> OSError | ValueError | None:
    """Write a line and flush it; a stream that cannot take it is given up, and its error returned.

    Nobody reads a message then, which is no reason to stop the work.
    """
    stream = getattr(sys, name)
    if stream is None:
        return None
    try:
        try:
            stream.write(text + end)
        except UnicodeEncodeError:
            stream.write(text.encode("ascii", "backslashreplace").decode() + end)
        stream.flush()
    except (OSError, ValueError) as error:
        _give_up(name)
        return error
    return None


def _give_up(name: Literal["stdout", "stderr"]) -> None:
    """Turn a stream to nothing, for libraries too, and so that its buffer is not flushed again at the end."""
    stream = getattr(sys, name)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def configure(*, json_only: bool) -> None:
    """With `json_only`, standard output is kept for one JSON object: `say` goes to standard error."""
    global _json_only
    _json_only = json_only


def say(text: str) -> None:
    """Print a line of result or of what to do next."""
    write(text, "stderr" if _json_only else "stdout")


def warn(text: str) -> None:
    """Print a warning on standard error."""
    write(f"warning: {text}", "stderr")


def _is_terminal() -> bool:
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError):  # none, or closed
        return False


class Progress:
    """Counts steps; on a terminal a bar with the time left, elsewhere a plain line now and then."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label, self.total, self.done, self.first = label, total, done, done
        self.begun = self.shown = time.monotonic()
        self.bar: Any = None
        if _is_terminal():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task(label, total=total, completed=done, note="")
            self._try(self.bar.start)

    def _try(self, draw: Any, *arguments: Any, **options: Any) -> None:
        """Draw; a terminal that is gone has no bar any more."""
        try:
            draw(*arguments, **options)
        except (OSError, ValueError):
            self.bar = None
            _give_up("stderr")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps`; `note` (a loss, a name) is shown next to the count."""
        self.done += steps
        if self.bar is not None:
            self._try(self.bar.update, self.task, advance=steps, note=note)
            return
        now = time.monotonic()
        if now - self.shown > SECONDS_BETWEEN_LINES or (self.done == self.total and now - self.begun > 1):
            self.shown = now
            left = (now - self.begun) / max(self.done - self.first, 1) * (self.total - self.done)
            tail = f", {left:.0f} s left" if self.done < self.total else ""
            write(f"{self.label}: {self.done}/{self.total}{tail} {note}".rstrip(), "stderr")

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self._try(self.bar.stop)


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Progress]:
    """`with progress("Matching", 100) as bar: bar.advance()`."""
    shown = Progress(label, total, done)
    try:
        yield shown
    finally:
        shown.close()
