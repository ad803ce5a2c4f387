"""`log.jsonl`: a line a step."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from alice3d.outputs import write_text


def read_log(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; [] where there is none. A line cut off by a kill is left out."""
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
    """Appends lines; on resume, lines from the first step that will be run again are dropped.

    Args:
        path: of the file.
        first_step: the step that comes next.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        kept = [entry for entry in read_log(path) if entry["step"] < first_step]
        write_text(path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self.file = path.open("a", encoding="utf-8")

    def write(self, entry: dict[str, Any]) -> None:
        """Append a line; numbers keep six significant digits."""
        rounded = {key: _short(value) for key, value in entry.items()}
        self.file.write(json.dumps(rounded) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
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
