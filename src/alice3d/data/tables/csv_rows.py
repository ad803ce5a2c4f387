"""Common parts of the user's tables: rows with their line numbers, and points in RAS mm."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from alice3d.errors import UserError

POINT = {
    "x_mm": "of the point in mm, in the scan's own affine: right is positive (RAS)",
    "y_mm": "in mm: anterior is positive",
    "z_mm": "in mm: superior is positive",
}
"""Columns of a point, RAS mm, and what they hold."""
CASE = "id of the scan: its file name without ending"


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str | None]]]]:
    """Columns of a CSV file, and its rows with the line each ends on.

    Raises:
        UserError: missing, or not CSV.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            return columns, [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV file ({getattr(error, 'strerror', None) or error})") from None


def require(path: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    """Refuse a table that lacks a column.

    Raises:
        UserError: a column is missing.
    """
    missing = [name for name in needed if name not in columns]
    if missing:
        found = ", ".join(columns)[:120] or "nothing"
        raise UserError(f"{path}: no column {', '.join(missing)} (needed {', '.join(needed)}; found {found})")


def point_of(row: Mapping[str, str | None], where: str) -> tuple[float, float, float]:
    """The point of a row, RAS mm.

    Args:
        row: with the columns `POINT`.
        where: file and line, for messages.

    Raises:
        UserError: not a number, or not finite.
    """
    values = []
    for name in POINT:
        text = (row.get(name) or "").strip()
        try:
            value = float(text)
        except ValueError:
            raise UserError(f"{where}: {name} is {text!r}, a number in mm is needed") from None
        if not math.isfinite(value):
            raise UserError(f"{where}: {name} is {text}, a finite number in mm is needed")
        values.append(value)
    x, y, z = values
    return x, y, z
