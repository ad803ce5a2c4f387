"""Reads class tables: a CSV with one row per scan, `case, class`, or one row per point, with `x_mm, y_mm, z_mm` in RAS
mm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alice3d import console
from alice3d.data.store import Case, Store
from alice3d.data.tables.csv_rows import CASE, POINT, point_of, read_rows, require
from alice3d.errors import UserError
from alice3d.geometry import Grid

COLUMNS = {"case": CASE, "class": "name of the class", **POINT}
"""Columns, and what they hold; those of a point stand together or not at all."""


@dataclass(frozen=True)
class Row:
    """A row of the file.

    Attributes:
        line: of the file, for messages.
        case: id.
        point_mm: RAS; None where the class is of the whole scan.
        name: of the class; "" where it is not read.
    """

    line: int
    case: str
    point_mm: tuple[float, float, float] | None
    name: str


@dataclass(frozen=True)
class Example:
    """A row whose case is in the store.

    Attributes:
        case: of the store.
        point_mm: RAS; None where the class is of the whole scan.
        name: of the class.
    """

    case: Case
    point_mm: tuple[float, float, float] | None
    name: str

    @property
    def centre_mm(self) -> NDArray[np.float64]:
        """(3,) RAS mm centre of the field of view: the point, or the centre of the body's bounding box."""
        return np.asarray(self.point_mm) if self.point_mm is not None else np.mean(self.case.body_box_mm, axis=0)


def read_class_table(path: str | Path, *, classes: bool = True) -> list[Row]:
    """Read a class table; other columns are ignored.

    Args:
        path: CSV with the columns `case` and `class`, and all three of `POINT` or none.
        classes: whether `class` is needed.

    Raises:
        UserError: unreadable, a column missing, an empty cell, an invalid or not finite number, or a duplicate row.
    """
    path = Path(path)
    columns, lines = read_rows(path)
    pointed = any(name in columns for name in POINT)
    left_out = {*(() if classes else ("class",)), *(() if pointed else POINT)}
    require(path, columns, [name for name in COLUMNS if name not in left_out])
    rows: list[Row] = []
    seen: dict[tuple[str, tuple[float, float, float] | None], int] = {}
    for line, cells in lines:
        where = f"{path}: line {line}"
        case, name = ((cells.get(column) or "").strip() for column in ("case", "class"))
        if not case or (classes and not name):
            raise UserError(f"{where}: {'case and class' if classes else 'case'} must not be empty")
        point = point_of(cells, where) if pointed else None
        earlier = seen.setdefault((case, point), line)
        if earlier != line:
            what = "this point of case" if pointed else "case"
            raise UserError(f"{where}: {what} {case!r} is already on line {earlier}")
        rows.append(Row(line, case, point, name if classes else ""))
    if not rows:
        raise UserError(f"{path}: holds no rows")
    return rows


def outside(point_mm: tuple[float, float, float], grid: Grid) -> str | None:
    """Why a point cannot be used: its position and the extent of the scan; None where it lies in the scan."""
    if grid.contains(np.asarray(point_mm)):
        return None
    low, high = grid.world(np.zeros(3)), grid.world(np.asarray(grid.shape) - 1)
    spans = ", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(low, high, strict=True))
    shown = ", ".join(f"{value:g}" for value in point_mm)
    return f"point {shown} lies outside the body of the scan, which spans {spans} (RAS mm; LPS has x and y negated)"


def examples_of(rows: list[Row], store: Store, path: str | Path) -> list[Example]:
    """The rows with their stored cases; those of scans that the store refused are counted and left out.

    Args:
        rows: from `read_class_table`.
        store: where the cases are.
        path: of the table, for messages.

    Raises:
        UserError: a case that is not in the store, a point outside its scan, or no row left.
    """
    known = {case.id: case for case in store.cases()}
    refused = {id for id, _, _ in store.refused}
    found, left_out = [], 0
    for row in rows:
        if row.case not in known:
            if row.case in refused:
                left_out += 1
                continue
            try:
                store.case(row.case)
            except UserError as error:
                raise UserError(f"{path}: line {row.line}: {error}") from None
        case = known[row.case]
        reason = outside(row.point_mm, case.grid) if row.point_mm is not None else None
        if reason:
            raise UserError(f"{path}: line {row.line}: {reason}")
        found.append(Example(case, row.point_mm, row.name))
    if left_out:
        console.warn(f"{path}: {left_out} rows are of scans that the store refused; they are left out")
    if not found:
        raise UserError(f"{path}: no row is of a scan in the store")
    return found
