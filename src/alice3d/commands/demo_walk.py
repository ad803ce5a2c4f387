"""Walks the demo's steps one after another: a line and a time for each, remembered when the demo is called again."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alice3d import console, files
from alice3d.commands.demo_plan import Planned, command_line

TIMES = "times.json"
"""Step to [seconds over all calls, whether it was finished]."""


@dataclass(frozen=True)
class Done:
    """A step that was taken: its name, what it did, how to repeat it, its seconds over all calls."""

    name: str
    what: str
    command: str
    seconds: float


class Walk:
    """Takes steps and keeps their times in `out/times.json`.

    Args:
        out: folder of the demo.

    Attributes:
        total: number of steps, for the count that is shown; 0 while it is not known.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.total = out, 0
        self.done: list[Done] = []
        try:
            self.times: dict[str, list[Any]] = json.loads((out / TIMES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.times = {}

    def take(self, name: str, what: str, command: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Do one step; what its command says on standard output is left out, its warnings and progress are shown."""
        before, finished = self.times.get(name, [0.0, False])
        count = f"{len(self.done) + 1}/{self.total}" if self.total else f"{len(self.done) + 1}"
        console.say(f"[{count}] {name}: {what}")
        begun = time.monotonic()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                result = work()
        finally:
            if not finished:
                self._remember(name, before + time.monotonic() - begun, finished=False)
        if not finished:
            self._remember(name, self.times[name][0], finished=True)
        seconds = self.times[name][0]
        note = " (already done)" if finished else ""
        console.say(f"        {seconds:.0f} s{note}")
        self.done.append(Done(name, what, command, seconds))
        return result

    def command(self, step: Planned) -> dict[str, Any]:
        """Take the step that a plan describes."""
        module = importlib.import_module(f"alice3d.commands.{step.command.replace('-', '_')}")
        return self.take(step.title, step.what, command_line(step), lambda: dict(module.run(step.config)))

    def _remember(self, name: str, seconds: float, *, finished: bool) -> None:
        self.times[name] = [round(seconds, 2), finished]
        files.write_text(self.out / TIMES, json.dumps(self.times, indent=1))
