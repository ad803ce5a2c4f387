"""Checkpoints: everything that a run needs to resume, each file written atomically."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from alice3d import console
from alice3d.errors import WorkFailed
from alice3d.files import replacing

UNREADABLE = (
    *(OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What reading a damaged file raises."""
DIRECTORY = 0x10
"""Bit that marks a zip entry as a folder; torch would then treat it as empty."""
KEPT = 2
"""Number of newest checkpoints that are kept; the one before the last is used if the last is damaged."""


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint files of a run, oldest first."""
    found = [path for path in folder.glob("step-*.pt") if re.fullmatch(r"step-\d+\.pt", path.name)]
    return sorted(found, key=lambda path: int(path.stem[5:]))


def save_checkpoint(folder: Path, step: int, content: dict[str, Any]) -> Path:
    """Write `step-N.pt` atomically and drop older ones.

    Raises:
        WorkFailed: the disk is full or cannot be written; earlier checkpoints are kept.
    """
    path = folder / f"step-{step}.pt"
    try:
        with replacing(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:
        cut_short = "inline_container" in str(error) or "PytorchStreamWriter" in str(error)  # no errno in torch
        said = "only a part of it was written" if cut_short else str(error).splitlines()[0]
        reason = getattr(error, "strerror", None) or said
        raise WorkFailed(
            f"{path.name}: the checkpoint of step {step} cannot be written ({reason}); earlier ones are kept, "
            "free disk space and run the same command again"
        ) from None
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest readable checkpoint, or None; damaged ones are reported and skipped. Nothing is unpickled."""
    damaged = []
    content: dict[str, Any] | None = None
    for path in reversed(checkpoints(folder)):
        content = _read(path)
        if content is not None:
            break
        damaged.append(path.name)
    if damaged:
        then = "resuming from an earlier checkpoint" if content is not None else "starting from the first step"
        console.warn(f"{', '.join(damaged)} {'is' if len(damaged) == 1 else 'are'} damaged; {then}")
    return content


def has_checkpoint(folder: Path) -> bool:
    """Whether `load_checkpoint` will find one; prints nothing."""
    return any(_read(path) is not None for path in reversed(checkpoints(folder)))


def _read(path: Path) -> dict[str, Any] | None:
    """Content of a checkpoint, or None where an entry is damaged: torch stores a CRC-32 of each entry but does not
    check it."""
    try:
        with zipfile.ZipFile(path) as parts:
            if parts.testzip() is not None or any(part.external_attr & DIRECTORY for part in parts.infolist()):
                return None
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE:
        return None
    return content
