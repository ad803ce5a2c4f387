"""Requests to stop that let the running step end first: SIGTERM, a closed terminal, Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from alice3d.errors import WorkFailed

NAMES = ("SIGTERM", "SIGHUP", "SIGINT")
"""Clusters send SIGTERM before the time limit, a terminal that is closed SIGHUP; Windows has no SIGHUP."""


@dataclass
class StopRequest:
    """Which signal has asked to stop; "" while none has."""

    signal: str = ""

    def end(self, step: int) -> None:
        """Stop after a step whose checkpoint is kept.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
            WorkFailed: another signal was received, here or by another process of the run.
        """
        kept = "a checkpoint is kept, the same command resumes"
        if self.signal == "SIGINT":
            raise KeyboardInterrupt(f"stopped by the user at step {step}; {kept}")
        raise WorkFailed(f"received {self.signal or 'SIGTERM'} at step {step}; {kept}")


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Notes the signals in place of their usual effect; the previous handlers are restored.

    A second Ctrl-C stops at once. A signal that is ignored stays so: SIGHUP under nohup, SIGINT in the background.
    """
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal == "SIGINT" and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = request.signal or signal.Signals(number).name

    before = {}
    try:
        for name in NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread, where Python allows no handler
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
