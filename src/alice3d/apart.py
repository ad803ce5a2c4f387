"""No output of a call is, holds, or lies inside one of its inputs, links and spellings of names aside."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alice3d.config import CommandConfig, Config, Reads, Writes
from alice3d.errors import UserError
from alice3d.version import PROGRAM

OURS = tuple(
    mark.encode()
    for mark in (f"Software\0{PROGRAM}", f'name="generator" content="{PROGRAM}"', f'"made_by": "{PROGRAM}"')
)
"""What pictures, pages and results of this package hold near their start."""


def check_apart(config: CommandConfig) -> None:
    """Refuse a call that would write into, over or around what it reads; see `Reads` and `Writes`.

    Folders are compared by what they are on disk, so that links, `..`, and capital letters on a file system that does
    not tell them apart make no difference.

    Raises:
        UserError: names the output and the input; or the output file is a folder, or two outputs are one.
    """
    if not config.is_writing():
        return
    inputs = list(inputs_of(config))
    seen: list[tuple[str, Path]] = []
    for name, field in type(config).model_fields.items():
        mark = next((mark for mark in field.metadata if isinstance(mark, Writes)), None)
        value = getattr(config, name)
        if mark is None or value is None or not str(value):
            continue
        output, shown = Path(value), f"{_option(config, name)} {value}"
        if mark.file and output.is_dir():
            raise UserError(f"{shown}: is a folder; a file is written there, give its name")
        if mark.file and not _is_ours(output):
            raise UserError(f"{shown}: is there and was not written by alice; remove it, or give another name")
        for other, path in seen:
            if _is_same(output, path):
                raise UserError(f"{shown}: is also written by {other}; give another name")
        seen.append((shown, output))
        for read, path in inputs:
            what = f"{_option(config, read)} {path}"
            if _is_same(output, path):
                raise UserError(f"{shown}: is {_option(config, read)} itself, which this call reads; write elsewhere")
            if not mark.file and _lies_inside(path, output):
                raise UserError(f"{shown}: holds {what}, which this call reads; choose a folder apart from it")
            if _lies_inside(output, path) and not _is_meant(mark, read, output, path):
                raise UserError(f"{shown}: lies inside {what}, which this call reads; write outside of it")


def refuse_sources_inside(out: Path, files: Iterable[Path]) -> None:
    """Refuse an output folder in which a file lies that is read through a table or a link.

    Raises:
        UserError: names the first file.
    """
    for file in files:
        if _lies_inside(file, out):
            raise UserError(f"{out}: holds {file.name}, which this call reads; choose a folder apart from it")


def inputs_of(config: Config) -> Iterator[tuple[str, Path]]:
    """Field and path of every input that exists, those in groups of settings under the name of the group."""
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if any(isinstance(mark, Reads) for mark in field.metadata):
            yield from ((name, path) for path in _paths(value))
        elif isinstance(value, dict) and value:
            kind = type(config).kind_of(name, dict(config))
            groups = [(kind, value)] if isinstance(kind, type) else [(kind.get(key), value[key]) for key in value]
            yield from ((name, path) for of, group in groups for path in _paths_in_group(of, group))


def _paths_in_group(kind: Any, values: Any) -> Iterator[Path]:
    if isinstance(kind, type) and issubclass(kind, Config) and isinstance(values, Mapping):
        for key, field in kind.model_fields.items():
            if any(isinstance(mark, Reads) for mark in field.metadata):
                yield from _paths(values.get(key))


def _paths(value: Any) -> Iterator[Path]:
    for one in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(one, (str, Path)) and str(one):
            try:
                if Path(one).exists():  # otherwise the name of shipped weights, or the command says that it is missing
                    yield Path(one)
            except (OSError, ValueError):  # no path at all
                continue


def _is_ours(output: Path) -> bool:
    """Whether a file that a call would write over is missing, empty, or a picture, page or result of this package."""
    try:
        with output.open("rb") as file:
            head = file.read(4096)
    except OSError:  # not there; one that cannot be read cannot be written over either, and that is told later
        return True
    return not head or any(mark in head for mark in OURS)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return one.absolute() == other.absolute()


def _lies_inside(inner: Path, outer: Path) -> bool:
    """Whether `outer` is a folder above `inner`, by its name or behind its links."""
    places = {*inner.absolute().parents, *inner.resolve().parents}
    return outer.is_dir() and any(_is_same(place, outer) for place in places if place.exists())


def _is_meant(mark: Writes, read: str, output: Path, path: Path) -> bool:
    """Whether this output belongs into this input, under this name."""
    pattern = mark.within.get(read)
    beside = path if path.is_dir() else path.parent
    return pattern is not None and _is_same(output.parent, beside) and fnmatch.fnmatch(output.name, pattern)


def _option(config: Config, name: str) -> str:
    if name in getattr(config, "positional", ()):
        return name.upper()
    return f"--{name.rstrip('_').replace('_', '-')}"
