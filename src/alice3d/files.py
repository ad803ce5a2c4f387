"""Files on disk: written whole or not at all, and known by their checksum."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished-"
"""How the names of files begin that are still being written."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    The file is forced to disk first, so `path` is whole or as it was, whenever the machine stops. What a killed
    process leaves begins with `UNFINISHED`. Who may read it follows from the umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{UNFINISHED}{secrets.token_hex(8)}{''.join(path.suffixes[-2:])}"
    # Whom the file is for is the user's to say: the system takes the umask off these bits, in whatever thread.
    os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)  # safetensors puts a private file in its place
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def json_text(value: Any, indent: int | None = 1) -> str:
    """A result as JSON, which has no NaN and no infinity: null in their place."""
    return json.dumps(as_json(value), indent=indent, allow_nan=False)


def as_json(value: Any) -> Any:
    """A result as it is read back from JSON: None in place of NaN and infinity, lists in place of tuples."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may be no text


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for files of this call alone; where no temporary folder can be written, one that cannot be either."""
    try:
        made = tempfile.TemporaryDirectory(prefix="alice-", ignore_cleanup_errors=True)
    except OSError:
        yield Path(os.devnull) / "scratch"
        return
    with made as folder:
        yield Path(folder)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads(..., object_pairs_hook=unique_keys)`: a key that is there twice is an error, not its last value.

    Raises:
        ValueError: names the key.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content
