"""Reads landmark files: a CSV with one row per point, `case, structure, x_mm, y_mm, z_mm`, RAS millimetres."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alice3d.data.tables.csv_rows import CASE, POINT, point_of, read_rows, require
from alice3d.errors import UserError

COLUMNS = {"case": CASE, "structure": "name of the point, the same in every scan", **POINT}
"""Columns, and what they hold."""
Points = NDArray[np.float64]
FEW_OUTSIDE, MOST_OUTSIDE = 0.1, 0.5
"""Fractions of points outside the bodies above which LPS coordinates are tested for, and the file is refused."""


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of known cases, and the other cases of the file.

    Attributes:
        points_mm: case to structure to (3,) RAS mm.
        skipped: cases of the file that are not in the store.
    """

    points_mm: dict[str, dict[str, NDArray[np.float64]]]
    skipped: tuple[str, ...]

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
    skipped: dict[str, None] = {}
    for line, row in rows:
        case, structure = (row["case"] or "").strip(), (row["structure"] or "").strip()
        point = np.array(point_of(row, f"{path}: line {line}"))
        if not case or not structure:
            raise UserError(f"{path}: line {line}: case and structure must not be empty")
        if case not in known:
            skipped[case] = None
            continue
        if structure in marks.setdefault(case, {}):
            raise UserError(f"{path}: line {line}: {structure} of case {case!r} is given twice")
        marks[case][structure] = point
    if not marks:
        what = f"its cases ({', '.join(list(skipped)[:3])}, ...)" if skipped else "it has no rows"
        raise UserError(
            f"{path}: no landmark of a case in the store; {what}; case ids are file names without extension"
        )
    return Landmarks(marks, tuple(skipped))


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
