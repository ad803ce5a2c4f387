"""Paths that a file of the user lists: made absolute, and kept inside the file's folder."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from alice3d.data.sources.sources import Source
from alice3d.io.folders import clean, shown
from alice3d.io.read import case_id

NO_FILE = "no such file"
"""Why a scan that a list names is refused when it is not there."""
OUTSIDE = "path leaves its folder: give paths inside the folder of the file that lists them"
DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def inside(root: Path, text: str) -> Path | None:
    """A path that a file lists, made absolute; None where it leaves the file's folder.

    Backslashes separate folders, as Windows writes them, where no file has them in its name.
    """
    top = os.path.abspath(root)  # in a relative root, `..` would be treated as a folder name
    text = text.strip().replace("\0", "")
    if DRIVE.match(text) and os.sep == "/":
        return None
    path = Path(os.path.normpath(Path(top, text)))
    if "\\" in text and not exists(path):
        path = Path(os.path.normpath(Path(top, text.replace("\\", "/"))))
    return path if path.is_relative_to(top) else None


def exists(path: Path) -> bool:
    """Whether there is such a file; never raises."""
    try:
        return path.exists()
    except OSError:  # a name too long, a loop of symbolic links
        return False


def listed_source(
    root: Path, image: str, label: str | None, name: str | None, split: str | None, outside: str = OUTSIDE
) -> Source:
    """The source of one line of a list.

    Args:
        root: folder of the list.
        image, label: paths as listed.
        name: case id; None takes the file's name.
        split: of the case; None where the list gives none.
        outside: the reason where a path leaves the folder.
    """
    root = Path(os.path.abspath(root))
    path, fault = inside(root, image), ""
    label_path = inside(root, label) if label is not None else None
    if path is None or (label is not None and label_path is None):
        path, label_path, fault = root / Path(image.replace("\\", "/")).name, None, outside
    source = Source(
        id=clean(name if name is not None else case_id(path)),
        path=path,
        name=shown(path, root),
        label=label_path,
        label_name=shown(label_path, root) if label_path is not None else "",
        split=split,
        fault=fault,
    )
    if not fault and not exists(path):
        return replace(source, fault=NO_FILE)
    if label_path is not None and not fault and not exists(label_path):
        return replace(source, fault=f"label {source.label_name}: no such file")
    return source
