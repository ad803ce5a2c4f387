"""Cases of a store whose scans are no longer where they were found: named, and removed where that is asked."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from alice3d import console
from alice3d.data.sources.layouts import DATASET
from alice3d.data.sources.listed import NO_FILE
from alice3d.data.sources.sources import Found
from alice3d.data.store.index import Row, read_index
from alice3d.errors import UserError
from alice3d.io.folders import walk

DIGITS = 12
SHOWN = 20


def root_of(scans: Path, store: Path) -> str:
    """What the rows of a store keep of the folder or list that they were found in: two hashes and no path.

    One is of the place relative to the store, the other of the whole path: either may stay the same when folders are
    moved.

    Args:
        scans: as the user gave it.
        store: folder of the store.
    """
    place = scans.resolve()
    if place.name == DATASET:
        place = place.parent
    elif (place / "images").is_dir() and (place / "labels").is_dir():
        place /= "images"
    words = (os.path.relpath(place, store.resolve()), str(place))
    return ":".join(hashlib.sha256(os.fsencode(word)).hexdigest()[:DIGITS] for word in words)


def _same(one: str, other: str) -> bool:
    """Whether two roots are one place."""
    return any(a == b for a, b in zip(one.split(":"), other.split(":"), strict=False))


def joined_root(cell: str, root: str) -> str:
    """The roots of a row, this one among them: a scan may be found in several."""
    return " ".join([root, *(one for one in cell.split() if not _same(one, root))])


def without_root(cell: str, root: str) -> str:
    """The other roots of a row."""
    return " ".join(one for one in cell.split() if not _same(one, root))


def missing_rows(rows: Iterable[Row], found: Found, root: str) -> list[Row]:
    """Accepted cases that were found in this folder or list alone, and are not there now."""
    there = {source.id for source in found.sources if source.fault != NO_FILE}
    return [
        row
        for row in rows
        if row["status"] == "taken" and row["id"] not in there and row["root"] and not without_root(row["root"], root)
    ]


def lost_labels(rows: Iterable[Row], found: Found) -> list[Row]:
    """Accepted cases with a stored label whose scan is given without one now, while others are given with labels.

    Where no scan is given with a label, labels were left out of the call, and those in the store stay.
    """
    if all(source.label is None for source in found.sources):
        return []
    bare = {source.id: source.name for source in found.sources if source.label is None and not source.fault}
    return [row for row in rows if row["status"] == "taken" and row["label"] and bare.get(row["id"]) == row["source"]]


def check_prune(rows: list[Row], found: Found, root: str, scans: Path) -> None:
    """Refuse to prune where the folder looks as if it were not there.

    Args:
        rows: of the store.
        found: the scans of this call.
        root: from `root_of`.
        scans: as the user gave it, for messages and for folders that cannot be read.

    Raises:
        UserError: none of the cases that came from it is there, or a folder in it cannot be read.
    """
    gone = missing_rows(rows, found, root)
    mine = [row for row in rows if row["status"] == "taken" and any(_same(one, root) for one in row["root"].split())]
    if gone and len(gone) == len(mine):
        raise UserError(
            f"--prune: none of the {len(gone)} cases that came from {scans} is there now; is a disk not mounted? "
            "Nothing was removed. To empty the store, remove its folder"
        )
    unreadable: list[Path] = []
    if gone and scans.is_dir():
        for _ in walk(scans, unreadable):
            pass
    if unreadable:
        raise UserError(
            f"--prune: {len(unreadable)} folders in {scans} cannot be read, and may hold the missing cases "
            f"({named(gone)}); correct their permissions. Nothing was removed"
        )


def report(rows: list[Row], found: Found, root: str, *, prune: bool) -> None:
    """Name the cases that are missing, or leave the store; and those whose folder is not known.

    Args:
        rows: of the store.
        found: the scans of this call.
        root: from `root_of`.
        prune: whether they leave.
    """
    gone = missing_rows(rows, found, root)
    if gone and prune:
        console.warn(
            f"{len(gone)} cases whose scans are gone leave the store ({named(gone)}); models, pairs tables and "
            "predictions made with them stay as they are"
        )
    elif gone:
        console.warn(
            f"{len(gone)} cases of the store are not among the given scans any more ({named(gone)}); they stay in the "
            "store, and --prune removes them"
        )
    lost = lost_labels(rows, found)
    if lost:
        what = "leave the store" if prune else "stay in the store, and --prune removes them"
        console.warn(f"labels of {len(lost)} cases are not among the given ones any more ({named(lost)}); they {what}")
    there = {source.id for source in found.sources}
    unknown = [row for row in rows if row["status"] == "taken" and not row["root"] and row["id"] not in there]
    if unknown:
        console.warn(
            f"{len(unknown)} cases of the store are not among the given scans ({named(unknown)}); an earlier release "
            "prepared them and did not keep from which folder, so they stay; without them, prepare into a new store"
        )


def named(rows: list[Row]) -> str:
    """Their ids, the first of many."""
    names = [row["id"] for row in rows]
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def report_replaced(store: Path, found: Found) -> None:
    """Name the cases of a store that is to be replaced which are not among the given scans: they leave it.

    A store whose index is damaged names none.
    """
    given = {source.id for source in found.sources}
    with contextlib.suppress(UserError, OSError, ValueError):
        others = [row for row in read_index(store) if row["status"] == "taken" and row["id"] not in given]
        if others:
            console.warn(
                f"--overwrite: {len(others)} cases of the store are not among the given scans ({named(others)}) and "
                "leave it; prepare their folder into it afterwards to have them back"
            )
