"""The index of a store after a call: one file of all rows, with their splits and patients, less what is gone."""

from __future__ import annotations

from pathlib import Path

from alice3d import console
from alice3d.data.prepare.withdrawn import joined_root, lost_labels, missing_rows, report, without_root
from alice3d.data.sources.listed import NO_FILE
from alice3d.data.sources.sources import Found
from alice3d.data.store.index import Row, read_index
from alice3d.data.store.splits import write_splits
from alice3d.data.store.writer import fold


def finish_index(
    store: Path, found: Found, split_of: dict[str, str], keys: dict[str, str], root: str, *, prune: bool
) -> None:
    """One index of all: parts of shards merged, splits and patients updated, rows of removed files named or dropped.

    Refused rows of removed files are dropped; those of another folder, whose accepted scans are not among the given
    ones either, are kept.
    """
    names, ids = {source.name for source in found.sources}, {source.id for source in found.sources}
    present = {source.name for source in found.sources if source.fault != NO_FILE}
    rows = read_index(store)
    for row in rows:
        row["split"] = split_of.get(row["id"], "")
        if row["source"] in present and row["id"] in ids:
            row["root"] = joined_root(row["root"], root)
        if row["status"] == "taken":
            row["patient"] = keys.get(row["id"], row["patient"])
    report(rows, found, root, prune=prune)
    if prune:
        for row in lost_labels(rows, found):
            row |= dict.fromkeys(("label", "label_source", "label_checksum", "label_sha256", "structures"), "")
            row["stamp"] = row["stamp"].partition(" ")[0]
        gone = {row["id"] for row in missing_rows(rows, found, root)}
        rows = [row for row in rows if row["status"] != "taken" or row["id"] not in gone]
        for row in (row for row in rows if row["source"] not in present):
            row["root"] = without_root(row["root"], root) or row["root"]  # another folder holds it
        write_splits(store, {name: split for name, split in split_of.items() if name not in gone})
    fold(store, _without_stale(rows, names, root))


def _without_stale(rows: list[Row], names: set[str], root: str) -> list[Row]:
    """The rows less those refused ones whose scans are gone."""
    strange = [row for row in rows if row["source"] not in names]
    alone = all(row["status"] != "taken" for row in strange)
    here = {row["source"] for row in strange if row["root"] and not without_root(row["root"], root)}
    stale = {row["source"] for row in strange if row["status"] != "taken" and (alone or row["source"] in here)}
    if stale:
        console.warn(f"{len(stale)} refused scans are not among the given ones and are removed from the index")
    return [row for row in rows if row["status"] == "taken" or row["source"] not in stale]
