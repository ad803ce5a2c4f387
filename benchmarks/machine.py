"""What a result must say about where it came from."""

from __future__ import annotations

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
