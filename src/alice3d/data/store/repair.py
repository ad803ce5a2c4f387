"""Repair of a damaged index: valid rows are kept, a copy of the file is kept, the other scans are processed again."""

from __future__ import annotations

import csv
from pathlib import Path

from alice3d import console
from alice3d.data.store.index import ADDED, COLUMNS, INDEX, PARTS, Row, read_rows, write_rows
from alice3d.data.store.store import Case
from alice3d.errors import UserError

SET_ASIDE = "damaged-"
"""Prefix of the name of a damaged index that was kept."""


def repair_index(folder: Path) -> None:
    """Repair index.csv and the parts of a job array where they are damaged; only under the lock of a sole writer.

    A last line truncated by a crash is not counted as damage.

    Raises:
        OSError: it cannot be written.
        UserError: it cannot be read.
    """
    for path in [folder / INDEX, *sorted(folder.glob(PARTS))]:
        if not path.exists() or _is_whole(path):
            continue
        rows, lost = _good_rows(path)
        aside = folder / f"{SET_ASIDE}{path.name}"
        path.replace(aside)
        write_rows(path, rows)
        console.warn(
            f"{path}: {lost} lines are damaged; kept as {aside.name}, their scans are prepared again where they "
            f"are among the given ones ({len(rows)} rows are kept)"
        )


def _is_whole(path: Path) -> bool:
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from None
    try:
        for row in read_rows(path):
            if row["status"] == "taken":
                Case.of_row(row)
    except (UserError, ValueError, IndexError, TypeError):
        return False
    return True


def _good_rows(path: Path) -> tuple[list[Row], int]:
    """The rows that can be read, and how many lines cannot; every row is one line, since names are printable."""
    lines = path.read_bytes().decode("utf-8-sig", "replace").split("\n")[:-1]
    columns = _cells(lines[0]) if lines else []
    if not set(COLUMNS) - set(ADDED) <= set(columns):
        return [], len(lines)
    rows = [_row(columns, _cells(line)) for line in lines[1:]]
    good = [row for row in rows if row is not None]
    return good, len(rows) - len(good)


def _cells(line: str) -> list[str]:
    """The cells of a line; [] where it is not CSV."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return []


def _row(columns: list[str], cells: list[str]) -> Row | None:
    """A row, where it is complete and its numbers can be read."""
    if len(cells) != len(columns) or any("\ufffd" in cell for cell in cells):
        return None
    given = dict(zip(columns, cells, strict=True))
    row = {name: given.get(name, "") for name in COLUMNS}
    if row["status"] == "taken":
        try:
            Case.of_row(row)
        except (ValueError, IndexError, TypeError):
            return None
    return row if row["status"] in ("taken", "refused") else None
