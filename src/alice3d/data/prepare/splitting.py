"""The split of each case of a call: from a file, from the data set's layout, or drawn; by patient."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alice3d import console
from alice3d.data.prepare.options import PrepareOptions
from alice3d.data.prepare.patients import patients_with
from alice3d.data.sources.sources import Found
from alice3d.data.store.index import Row
from alice3d.data.store.splits import SPLITS, default_splits, read_splits, torn_patients
from alice3d.errors import UserError

SHOWN = 3


def earlier_splits(store: Path) -> dict[str, str]:
    """Case id to split, of every case that was ever asked for."""
    return read_splits(store / SPLITS) if (store / SPLITS).exists() else {}


def splits_of(
    found: Found,
    options: PrepareOptions,
    seed: int,
    rows: list[Row],
    keys: Mapping[str, str],
    earlier: Mapping[str, str],
    *,
    tell: bool = True,
) -> dict[str, str]:
    """Case id to split, determined from the list of files only, so that restarts and shards agree.

    Args:
        found: the scans of this call.
        options: of them `splits`.
        seed: of the draw.
        rows: of the store.
        keys: case id to the key of its patient, where one is known.
        earlier: from `earlier_splits`.
        tell: whether warnings are printed.

    Raises:
        UserError: the file of splits, the layout or the table of scans puts a patient into two splits.
    """
    names = {source.id for source in found.sources}
    patients = patients_with(rows, {*names, *earlier}, keys)
    if options.splits is not None:
        given = read_splits(options.splits)
        if tell:
            _warn_strangers(given, names | {row["id"] for row in rows})
        split_of = {**{name: split for name, split in earlier.items() if name not in names}, **given}
        advice = f"name them in one split of {options.splits.name}"
    else:
        given = {source.id: source.split for source in found.sources if source.split is not None}
        free = [source for source in found.sources if source.split is None]
        labelled = {source.id for source in free if source.label is not None}
        unlabelled = {source.id for source in free} - labelled
        known = {**earlier, **{name: split for name, split in given.items() if split}}
        split_of = {**earlier, **default_splits(labelled, unlabelled, seed, known, patients), **given}
        advice = "give them one split in the table of scans, or in a JSON file by --splits"
    _check_torn(torn_patients(split_of, patients), given, advice, tell=tell)
    return split_of


def _warn_strangers(given: Mapping[str, str], known: set[str]) -> None:
    strangers = sorted(set(given) - known)
    if strangers:
        shown = ", ".join(strangers[:SHOWN]) + (", ..." if len(strangers) > SHOWN else "")
        console.warn(f"{len(strangers)} ids of the splits file have no scan ({shown})")


def _check_torn(torn: list[dict[str, str]], given: Mapping[str, str], advice: str, *, tell: bool) -> None:
    """Refuse given splits that tear a patient apart; report those that an earlier release drew.

    Raises:
        UserError: a case with a given split is of a patient that lies in another split, too.
    """
    for of in torn:
        if any(given.get(name) for name in of):
            cases = ", ".join(f"{name} ({split})" for name, split in list(of.items())[: 2 * SHOWN])
            raise UserError(f"splits: cases of one patient lie in different splits: {cases}; {advice}")
    if torn and tell:
        some = "; ".join(", ".join(f"{name} ({split})" for name, split in of.items()) for of in torn[:SHOWN])
        console.warn(
            f"{len(torn)} patients lie in several splits, which were drawn before their cases were known to be of one "
            f"patient ({some}); prepare the scans into a new store, or give --splits"
        )
