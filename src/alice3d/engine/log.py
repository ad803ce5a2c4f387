"""`log.jsonl`: one line per step."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alice3d.errors import WorkFailed
from alice3d.files import write_text


def read_log(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a log; [] where there is none. A truncated last line is left out."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "step" in entry:
            lines.append(entry)
    return lines


class Log:
    """Appends lines; on resume, lines from the first repeated step on are dropped.

    Args:
        path: of the file.
        first_step: the next step.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        kept = [entry for entry in read_log(path) if entry["step"] < first_step]
        self.path = path
        write_text(path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self.file = path.open("a", encoding="utf-8")

    def write(self, entry: dict[str, Any]) -> None:
        """Append a line; values keep six significant digits.

        Raises:
            WorkFailed: the disk is full or cannot be written; the checkpoints are kept.
        """
        rounded = {key: _short(value) for key, value in entry.items()}
        try:
            self.file.write(json.dumps(rounded) + "\n")
            self.file.flush()
        except OSError as error:
            raise WorkFailed(
                f"{self.path.name}: step {entry['step']} cannot be written ({error.strerror}); the last checkpoint is "
                "kept, free disk space and run the same command again"
            ) from None

    def close(self) -> None:
        """Close the file; lines that a full disk did not take are lost, and written again when those steps are
        repeated."""
        with contextlib.suppress(OSError):
            self.file.close()


def _short(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.6g}")
    return value


def final_loss(path: Path, key: str = "loss") -> float:
    """Mean loss over the last tenth of the steps; NaN where the log is empty."""
    values = [entry[key] for entry in read_log(path) if key in entry]
    last = values[-max(len(values) // 10, 1) :]
    return sum(last) / len(last) if last else math.nan


@dataclass(frozen=True)
class Speed:
    """Samples per second of computing, and the fraction of time spent waiting for data; NaN where unknown."""

    samples_per_s: float
    wait_share: float

    def __str__(self) -> str:
        return f"{self.samples_per_s:.3g} samples/s, {self.wait_share:.1%} of the time waiting for data"


UNKNOWN_SPEED = Speed(math.nan, math.nan)


def speed(path: Path, batch: int) -> Speed:
    """Throughput over all steps of a log.

    Args:
        path: of the log.
        batch: samples per step.
    """
    lines = [entry for entry in read_log(path) if "step_s" in entry]
    total = sum(entry["step_s"] for entry in lines)
    if not total:
        return UNKNOWN_SPEED
    return Speed(batch * len(lines) / total, sum(entry["data_wait_s"] for entry in lines) / total)
