"""Reads landmark files: a CSV with one row per point, `case, structure, x_mm, y_mm, z_mm`, RAS millimetres."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alice3d import console
from alice3d.data.store import Store
from alice3d.data.tables.csv_rows import CASE, POINT, point_of, read_rows, require
from alice3d.errors import UserError
from alice3d.geometry import Grid

COLUMNS = {"case": CASE, "structure": "name of the point, the same in every scan", **POINT}
"""Columns, and what they hold."""
Points = NDArray[np.float64]
SHOWN = 5
"""Cases and points that a message names."""
FEW_OUTSIDE, MOST_OUTSIDE = 0.1, 0.5
"""Fractions of points outside the bodies above which LPS coordinates are tested for, and the file is refused."""


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of known cases, and the other cases of the file.

    Attributes:
        points_mm: case to structure to (3,) RAS mm.
        skipped: cases of the file that are not known.
        skipped_rows: rows of each of them.
        lines: line of the file of each landmark, by case and structure.
        outside: (case, structure) of landmarks that were left out, since they lie outside their scans.
    """

    points_mm: dict[str, dict[str, NDArray[np.float64]]]
    skipped: tuple[str, ...]
    skipped_rows: dict[str, int] = field(default_factory=dict)
    lines: dict[tuple[str, str], int] = field(default_factory=dict)
    outside: tuple[tuple[str, str], ...] = ()

    @property
    def structures(self) -> list[str]:
        """Names, sorted."""
        return sorted({name for marks in self.points_mm.values() for name in marks})


def read_landmarks(path: str | Path, known: Collection[str]) -> Landmarks:
    """Read a landmark file.

    Args:
        path: CSV with the columns of `COLUMNS`, further ones are ignored.
        known: ids of the known cases; rows of others are skipped.

    Raises:
        UserError: unreadable, a column missing, a row with invalid numbers or a duplicate, or no known case.
    """
    path = Path(path)
    columns, rows = read_rows(path)
    require(path, columns, tuple(COLUMNS))
    marks: dict[str, dict[str, NDArray[np.float64]]] = {}
    lines: dict[tuple[str, str], int] = {}
    skipped: Counter[str] = Counter()
    for line, row in rows:
        case, structure = (row["case"] or "").strip(), (row["structure"] or "").strip()
        point = np.array(point_of(row, f"{path}: line {line}"))
        if not case or not structure:
            raise UserError(f"{path}: line {line}: case and structure must not be empty")
        if case not in known:
            skipped[case] += 1
            continue
        if structure in marks.setdefault(case, {}):
            raise UserError(f"{path}: line {line}: {structure} of case {case!r} is given twice")
        marks[case][structure], lines[case, structure] = point, line
    if not marks:
        what = f"its cases ({', '.join(list(skipped)[:3])}, ...)" if skipped else "it has no rows"
        raise UserError(
            f"{path}: no landmark of a case in the store; {what}; case ids are file names without extension"
        )
    return Landmarks(marks, tuple(skipped), dict(skipped), lines)


def landmarks_of(path: str | Path, store: Store, cases: Collection[str]) -> Landmarks:
    """Landmarks of some cases of a store; rows of unknown cases and points outside their scans are left out and named.

    Args:
        path: CSV with the columns of `COLUMNS`.
        store: of the cases.
        cases: ids; rows of the store's other cases are left out without a word.

    Raises:
        UserError: as `read_landmarks` and `within_scans`.
    """
    marks = read_landmarks(path, cases)
    tell_unknown(path, marks, {case.id for case in store.cases()})
    return within_scans(path, marks, lambda case: store.case(case).grid)


def tell_unknown(path: str | Path, marks: Landmarks, held: Collection[str]) -> None:
    """Name the cases of the file that are none of the scans.

    Args:
        path: named in the message.
        marks: from `read_landmarks`.
        held: ids of all scans.
    """
    unknown = [case for case in marks.skipped if case not in held]
    if unknown:
        rows = sum(marks.skipped_rows.get(case, 1) for case in unknown)
        some = ", ".join(unknown[:SHOWN]) + (", ..." if len(unknown) > SHOWN else "")
        console.warn(
            f"{path}: {rows} rows are of {len(unknown)} cases that are none of the scans ({some}); they are left out. "
            "Case ids are file names without extension"
        )


def within_scans(path: str | Path, marks: Landmarks, grid_of: Callable[[str], Grid]) -> Landmarks:
    """The landmarks that lie in their scans; the others, which nothing can match, are left out and named.

    Args:
        path: named in the message.
        marks: from `read_landmarks`.
        grid_of: case to the grid of its stored scan.

    Raises:
        UserError: most lie outside, or they are LPS.
    """
    grids = {case: grid_of(case) for case in marks.points_mm}
    check_convention(path, marks, lambda case, points: grids[case].contains(points))
    gone = {
        (case, name): point
        for case, of in marks.points_mm.items()
        for name, point in of.items()
        if not grids[case].contains(point)
    }
    if not gone:
        return marks
    where = []
    for (case, name), point in list(gone.items())[:SHOWN]:
        at = ", ".join(f"{mm:g}" for mm in point)
        where.append(f"line {marks.lines.get((case, name), 0)}: {name} of {case!r} at {at}")
    more = f"; and {len(gone) - SHOWN} more" if len(gone) > SHOWN else ""
    console.warn(
        f"{path}: {len(gone)} landmarks lie outside their scans and are left out ({'; '.join(where)}{more}); correct "
        "them, or remove their rows"
    )
    kept = {
        case: {name: point for name, point in of.items() if (case, name) not in gone}
        for case, of in marks.points_mm.items()
    }
    return replace(marks, points_mm={case: of for case, of in kept.items() if of}, outside=tuple(gone))


def check_convention(path: str | Path, marks: Landmarks, inside: Callable[[str, Points], NDArray[np.bool_]]) -> None:
    """Refuse landmarks that lie outside their bodies, with a hint where they look like LPS.

    Args:
        path: named in the message.
        marks: from `read_landmarks`.
        inside: maps case and points (n, 3) RAS mm to whether they lie in the body.

    Raises:
        UserError: most points lie outside, or far fewer would with x and y negated.
    """

    def outside(signs: tuple[int, int, int]) -> float:
        found = [inside(case, np.stack(list(of.values())) * signs) for case, of in marks.points_mm.items()]
        return 1 - float(np.concatenate(found).mean())

    as_given = outside((1, 1, 1))
    if as_given > FEW_OUTSIDE and outside((-1, -1, 1)) < as_given / 3:
        raise UserError(
            f"{path}: {as_given:.0%} of the points lie outside their scans' bodies, but inside with x and y "
            "negated: they are LPS (ITK, DICOM); write RAS, with x and y negated"
        )
    if as_given > MOST_OUTSIDE:
        raise UserError(
            f"{path}: {as_given:.0%} of the points lie outside their scans' bodies; RAS millimetres in the scans' own "
            "affines are needed, not voxel indices"
        )
