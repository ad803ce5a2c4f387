"""Walks a folder of scans, safe against loops of links."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path


def is_plain(path: Path) -> bool:
    """Whether opening a path cannot block: a file or a dangling link; no pipe, socket or device."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # reported when it is opened
        return True


def walk(folder: Path, unreadable: list[Path] | None = None) -> Iterator[Path]:
    """Files under a folder, sorted, links followed but no folder twice; hidden ones and pipes are left out.

    Args:
        folder: to search.
        unreadable: gets the folders that cannot be read.
    """
    seen: set[tuple[int, int]] = set()

    def inside(here: Path) -> Iterator[Path]:
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                return
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            if unreadable is not None:
                unreadable.append(here)
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                folder_like = entry.is_dir()
                plain = not folder_like and (entry.is_file(follow_symlinks=False) or is_plain(Path(entry.path)))
            except OSError:  # a loop of symbolic links
                continue
            if folder_like:
                yield from inside(Path(entry.path))
            elif plain:
                yield Path(entry.path)

    yield from inside(folder)


def clean(text: str) -> str:
    """A file name as one line of valid UTF-8: control characters and foreign bytes are written as escapes."""
    if text.isprintable():  # lone surrogates, which stand for foreign bytes, are not
        return text
    valid = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in valid)


def structure_name(text: str) -> str:
    """Name of a structure as one line: composed Unicode form, without padding and repeated blanks."""
    return clean(" ".join(unicodedata.normalize("NFC", text.replace("\0", " ")).split()))


def shown(path: Path, root: Path) -> str:
    """A path relative to the folder that the user gave, as one printable line."""
    return clean(str(path.relative_to(root)) if path.is_relative_to(root) else path.name)
