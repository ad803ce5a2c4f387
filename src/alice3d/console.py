"""Console output: lines, warnings and progress. Standard output belongs to results, progress to standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_json_only = False
SECONDS_BETWEEN_LINES = 15.0
"""Plain progress (no terminal) prints at most this often."""


def configure(*, json_only: bool) -> None:
    """With `json_only`, standard output is kept for one JSON object: `say` goes to standard error."""
    global _json_only
    _json_only = json_only


def say(text: str) -> None:
    """Print a line of result or of what to do next."""
    print(text, file=sys.stderr if _json_only else sys.stdout, flush=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


class Progress:
    """Counts steps; on a terminal a bar with the time left, elsewhere a plain line now and then."""

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        self.label, self.total, self.done, self.first = label, total, done, done
        self.begun = self.shown = time.monotonic()
        self.bar: Any = None
        if sys.stderr.isatty():
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
            self.bar.start()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps`; `note` (a loss, a name) is shown next to the count."""
        self.done += steps
        if self.bar is not None:
            self.bar.update(self.task, advance=steps, note=note)
            return
        now = time.monotonic()
        if now - self.shown > SECONDS_BETWEEN_LINES or (self.done == self.total and now - self.begun > 1):
            self.shown = now
            left = (now - self.begun) / max(self.done - self.first, 1) * (self.total - self.done)
            tail = f", {left:.0f} s left" if self.done < self.total else ""
            print(f"{self.label}: {self.done}/{self.total}{tail} {note}".rstrip(), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.stop()


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Progress]:
    """`with progress("Matching", 100) as bar: bar.advance()`."""
    shown = Progress(label, total, done)
    try:
        yield shown
    finally:
        shown.close()
