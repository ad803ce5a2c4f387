"""Common parts of the user's tables: rows with their line numbers, and points in RAS mm."""

from __future__ import annotations

import csv
import io
import math
import re
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
DELIMITERS = (",", ";", "\t", "|")
SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
DECIMAL = re.compile(r"\s*[-+]?\d+,\d+\s*")


Rows = tuple[list[str], list[tuple[int, dict[str, str | None]]]]


def read_rows(path: Path) -> Rows:
    """Columns of a CSV file, and its rows with the line each ends on; rows without any text are left out.

    Fields may be separated by commas, semicolons, tabs or bars. Where they are not separated by commas, the numbers of
    `POINT` may have a decimal comma, as spreadsheets write them in most of Europe.

    Raises:
        UserError: missing, not CSV in UTF-8, a column twice, or a row with more fields than columns.
    """
    text = _text_of(path)
    delimiter, skipped, text = _delimiter(text)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        columns: list[str] = []
        rows: list[tuple[int, dict[str, str | None]]] = []
        for cells in reader:
            line = reader.line_num + skipped
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = [cell.strip() for cell in cells]
                while columns and not columns[-1]:
                    columns.pop()
                twice = next((name for n, name in enumerate(columns) if name and name in columns[:n]), None)
                if twice is not None:
                    raise UserError(f"{path}: has two columns {twice[:40]!r}; remove or rename one")
                continue
            if any(cell.strip() for cell in cells[len(columns) :]):
                raise UserError(
                    f"{path}: line {line} has {len(cells)} fields, the first line {len(columns)}; put quotation marks "
                    "around text that holds the separator"
                )
            row = dict(zip(columns, [*cells, *[None] * len(columns)], strict=False))
            rows.append((line, row if delimiter == "," else _with_points(row)))
    except csv.Error as error:
        raise UserError(f"{path}: not a readable CSV file, line {reader.line_num + skipped}: {error}") from None
    return columns, rows


def _text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: not a readable CSV file ({error.strerror})") from None
    save = "save it as CSV in UTF-8"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:1000]:
        raise UserError(f"{path}: not a readable CSV file: it is UTF-16 or binary; {save}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}: not a readable CSV file: line {line} is not UTF-8; {save}") from None


def _delimiter(text: str) -> tuple[str, int, str]:
    """The separator of fields, the number of lines before the table, and the table.

    It is the one of `DELIMITERS` that is most frequent in the first line with text, outside quotation marks; Excel's
    `sep=;` in front of the table says so itself.
    """
    skipped = 0
    lines = text.splitlines(keepends=True)
    for line in lines:
        if line.strip():
            break
        skipped += 1
    first = lines[skipped] if skipped < len(lines) else ""
    if (match := SEP.fullmatch(first.strip("\r\n"))) is not None:
        return match[1], skipped + 1, "".join(lines[skipped + 1 :])
    plain = re.sub(r'"[^"]*"', "", first)
    return max(DELIMITERS, key=lambda one: (plain.count(one), one == ",")), skipped, "".join(lines[skipped:])


def _with_points(row: dict[str, str | None]) -> dict[str, str | None]:
    """A row whose coordinates have decimal points."""
    return {
        name: cell.replace(",", ".") if cell is not None and name in POINT and DECIMAL.fullmatch(cell) else cell
        for name, cell in row.items()
    }


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
