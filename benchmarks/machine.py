"""What a result must say about where it came from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def described() -> dict[str, Any]:
    """Commit, processor, load and versions."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip(),
        "machine": {"processor": platform.machine(), "cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)},
        "python": platform.python_version(),
    }


def keep(out: Path, result: dict[str, Any]) -> None:
    """Write a result as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
