"""Finds the scans that a user means, and the label that belongs to each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from alice3d.data.index import clean
from alice3d.data.read import ENDINGS, SECOND_HALVES, case_id, ending_of
from alice3d.errors import UserError

MAX_ID_BYTES = 200
"""File systems allow 255; the store adds an ending."""


@dataclass(frozen=True)
class Source:
    """One scan to prepare.

    Attributes:
        id: case id.
        path: the file, or the folder of a series.
        name: path relative to the folder the user gave.
        label: its label file.
        label_name: relative to the labels' folder.
        split: as the layout says; None where it does not.
        fault: why it is refused before it is opened; "" where it is not.
    """

    id: str
    path: Path
    name: str
    label: Path | None = None
    label_name: str = ""
    split: str | None = None
    fault: str = ""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        sources: sorted by id.
        label_names: value to name, where the layout declares them.
        warnings: for the user.
    """

    sources: list[Source]
    label_names: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


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


def find_sources(scans: Path, labels: Path | None) -> Found:
    """Every scan of a folder, or one file, with labels of the same name.

    Raises:
        UserError: nothing there, or no scan in it.
    """
    if not scans.exists():
        raise UserError(f"{scans}: no such file or folder")
    if labels is not None and not labels.is_dir():
        raise UserError(f"{labels}: no such folder of labels")
    root = scans if scans.is_dir() else scans.parent
    own_labels = labels.resolve() if labels is not None else None
    files, others = [], Counter[str]()
    for path in walk(scans) if scans.is_dir() else [scans]:
        if own_labels is not None and own_labels != scans.resolve() and own_labels in path.resolve().parents:
            continue
        ending = ending_of(path)
        if ending is None:
            others[path.suffix.lower() or "no ending"] += 1
        elif not _is_second_half(path, ending):
            files.append(path)
    if not files:
        held = ", ".join(f"{count} {ending}" for ending, count in others.most_common(3)) or "nothing"
        raise UserError(f"{scans}: no scans found; it holds {held}, known are {', '.join(ENDINGS)}")
    sources = [Source(id=clean(case_id(path)), path=path, name=clean(str(path.relative_to(root)))) for path in files]
    found = Found(without_duplicates(sources))
    return _with_labels(found, labels) if labels is not None else found


def _is_second_half(path: Path, ending: str) -> bool:
    """The .img of a pair whose .hdr is there."""
    if ending not in SECOND_HALVES:
        return False
    stem = path.name[: -len(ending)]
    return any(path.with_name(stem + other).exists() for other in (".hdr", ".hdr.gz", ".HDR"))


def without_duplicates(sources: list[Source]) -> list[Source]:
    """Sorted by id; scans that share a name, and names that cannot be used, get a fault."""
    count = Counter(source.id.casefold() for source in sources)
    first: dict[str, str] = {}
    checked = []
    for source in sorted(sources, key=lambda s: (s.id, s.name)):
        fault = source.fault
        if not fault and count[source.id.casefold()] > 1:
            other = next(s.name for s in sources if s.id.casefold() == source.id.casefold() and s.name != source.name)
            fault = f"duplicate case name: {source.id!r} is also {other}; rename one"
        if not fault and (not source.id or source.id.strip() != source.id or "\\" in source.id):
            fault = "bad file name: line breaks, backslashes and outer blanks cannot be part of a case name; rename it"
        if not fault and len(source.id.encode()) > MAX_ID_BYTES:
            fault = f"bad file name: longer than {MAX_ID_BYTES} bytes; rename it"
        first.setdefault(source.id, source.name)
        checked.append(replace(source, fault=fault))
    return checked


def _with_labels(found: Found, labels: Path) -> Found:
    """Give each source the label of its name."""
    by_id: dict[str, list[Path]] = {}
    for path in walk(labels):
        ending = ending_of(path)
        if ending is not None and not _is_second_half(path, ending):
            by_id.setdefault(clean(case_id(path)), []).append(path)
    if not by_id:
        raise UserError(f"{labels}: no labels found")
    sources = []
    for source in found.sources:
        mine = by_id.pop(source.id, [])
        if len(mine) > 1 and not source.fault:
            names = " and ".join(clean(str(path.relative_to(labels))) for path in mine[:2])
            source = replace(source, fault=f"duplicate label: {names}; remove one")
        if mine:
            source = replace(source, label=mine[0], label_name=clean(str(mine[0].relative_to(labels))))
        sources.append(source)
    warnings = list(found.warnings)
    if by_id:
        shown = ", ".join(sorted(by_id)[:3])
        warnings.append(f"{len(by_id)} labels have no scan of their name ({shown}{', ...' if len(by_id) > 3 else ''})")
    if not any(source.label for source in sources):
        raise UserError(f"{labels}: no label has the name of a scan; a label is named like its scan")
    return replace(found, sources=sources, warnings=warnings)
