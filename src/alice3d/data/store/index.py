"""The index of a store: one CSV row per scan, accepted or refused, appended once the scan's arrays are on disk."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alice3d.errors import UserError
from alice3d.files import write_text
from alice3d.io.folders import clean

INDEX = "index.csv"
PARTS = "index.*-of-*.csv"
"""The indices that the shards of a job array write."""
SYNC_SECONDS = 1.0
"""Seconds between syncs of rows to disk: syncing each row would take longer than preparing a small scan."""
REPAIR_ADVICE = (
    "the index is damaged; to repair it, run the same alice prepare command that filled the store, without --shard"
)
"""Advice for messages."""
COLUMNS = (
    "id",  # file name without extension
    "split",  # "" = in none
    "status",  # taken | refused
    "reason",  # why it was refused
    "source",  # relative to the folder the user gave
    "shape",  # voxels along R, A, S
    "spacing_mm",
    "affine",  # 16 numbers, row by row: voxel index to RAS mm
    "body_low_mm",  # corners of the body's bounding box, RAS mm
    "body_high_mm",
    "stats",  # JSON: of the body's voxels
    "checksum",  # SHA-256 of the stored voxels and affine
    "content",  # SHA-256 of the source's voxels, whatever the file's format, name, or the store's spacing
    "image_sha256",  # of the file images/<id>.b2nd
    "label",  # file, or "" where there is none
    "label_source",
    "label_checksum",
    "label_sha256",
    "structures",  # label values that occur
    "notes",  # remarks and repairs
    "stamp",  # size and modification time of the source files, to detect changes
    "source_shape",
    "source_spacing_mm",
    "patient",  # salted hash of the patient's identifier, or "": the case is its own patient
    "root",  # hashes of the folder or list that the scan was found in
)
ADDED = ("patient", "root")
"""Columns that stores of earlier releases lack; there they are empty."""
Row = dict[str, str]
"""Column to text; all of `COLUMNS`."""


def numbers(text: str) -> tuple[float, ...]:
    """`1.0 2.5` to floats."""
    return tuple(float(word) for word in text.split())


def integers(text: str) -> tuple[int, ...]:
    """`1 2` to ints."""
    return tuple(int(word) for word in text.split())


def joined(values: Iterable[Any]) -> str:
    """Numbers to text that reads back bit for bit."""
    return " ".join(repr(value.item() if hasattr(value, "item") else value) for value in values)


def stats_text(stats: Mapping[str, float]) -> str:
    """Body statistics as one cell."""
    return json.dumps({key: float(value) for key, value in stats.items()})


def part_name(shard: tuple[int, int]) -> str:
    """File name of the index that shard (i, n) of a job array writes."""
    return f"index.{shard[0]:05d}-of-{shard[1]:05d}.csv"


def _text_of(rows: Iterable[Row], header: bool) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({key: clean(value) for key, value in row.items()} for row in rows)
    return buffer.getvalue()


def read_rows(path: Path) -> list[Row]:
    """Rows of one index file; a last line truncated by a crash is left out.

    Raises:
        UserError: another header, or an incomplete row.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: holds bytes that are not UTF-8; {REPAIR_ADVICE}") from None
    text = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(text))
    rows = []
    try:
        present = [name for name in COLUMNS if name in (reader.fieldnames or ())]
        missing = set(COLUMNS) - set(ADDED) - set(present)
        if missing:
            raise UserError(f"{path}: no column {sorted(missing)[0]!r}; {REPAIR_ADVICE}")
        for row in reader:
            if None in row or any(row[name] is None for name in present):
                raise UserError(f"{path}: row {reader.line_num} is incomplete; {REPAIR_ADVICE}")
            rows.append({name: row.get(name, "") for name in COLUMNS})
    except csv.Error:
        raise UserError(f"{path}: row {reader.line_num + 1} is not valid CSV; {REPAIR_ADVICE}") from None
    return rows


def read_index(folder: Path) -> list[Row]:
    """All rows of a store, of index.csv and of the parts of a job array; a later row replaces an earlier one.

    Accepted rows are identified by their id, refused ones by their source.
    """
    taken: dict[str, Row] = {}
    refused: dict[str, Row] = {}
    for path in [folder / INDEX, *sorted(folder.glob(PARTS))]:
        if not path.exists():
            continue
        for row in read_rows(path):
            if row["status"] == "taken":
                taken[row["id"]] = row
                refused.pop(row["source"], None)
            else:
                refused[row["source"]] = row
                if row["source"] == taken.get(row["id"], {}).get("source"):
                    del taken[row["id"]]  # accepted before, but its file has changed and is now refused
    return [*(taken[name] for name in sorted(taken)), *(refused[name] for name in sorted(refused))]


@contextmanager
def appending(path: Path, before_sync: Callable[[], object] = lambda: None) -> Iterator[Callable[[Row], None]]:
    """`with appending(path) as append: append(row)`; a line truncated by a crash is repaired first.

    A row is written to the system at once, so a killed process loses none; it is synced to disk every
    `SYNC_SECONDS` and at the end, so that a crash of the machine loses the last of them: those cases are processed
    again.

    Args:
        path: an index file.
        before_sync: called before a sync: files that must be on disk before their rows.
    """
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if size and file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        synced = time.monotonic()

        def sync() -> None:
            nonlocal synced
            before_sync()
            os.fsync(file.fileno())
            synced = time.monotonic()

        def append(row: Row) -> None:
            file.write(_text_of([row], header=file.seek(0, os.SEEK_END) == 0).encode("utf-8"))
            file.flush()
            if time.monotonic() - synced > SYNC_SECONDS:
                sync()

        try:
            yield append
        finally:
            sync()


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace an index file, atomically."""
    write_text(path, _text_of(rows, header=True))


def ready_to_append(path: Path) -> None:
    """Make an index file that lacks its header, or columns that this release adds, take rows.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        write_rows(path, [])
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        header = file.readline().rstrip("\n").split(",")
    if header != [""] and not set(COLUMNS) <= set(header):
        write_rows(path, read_rows(path))
