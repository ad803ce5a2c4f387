"""Walks a folder of scans, whatever its links do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def walk(folder: Path) -> Iterator[Path]:
    """Files under a folder, sorted, links followed but no folder twice; hidden ones are left out."""
    seen: set[tuple[int, int]] = set()

    def inside(here: Path) -> Iterator[Path]:
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                return
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                folder_like = entry.is_dir()
            except OSError:  # a loop of links
                continue
            if folder_like:
                yield from inside(Path(entry.path))
            else:
                yield Path(entry.path)

    yield from inside(folder)
