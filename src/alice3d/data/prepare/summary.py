"""Console summary of `prepare`: accepted and refused scans, and the reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alice3d import console
from alice3d.data.prepare.options import none_taken
from alice3d.data.prepare.taken_for import TakenFor
from alice3d.data.sources.sources import Found
from alice3d.data.store import Store, StoreSpec
from alice3d.data.store.index import INDEX
from alice3d.errors import UserError

SHOWN = 20
"""Refused scans that are printed; index.csv holds all."""


def result_of(store: Path, added: int, tried: int, *, empty_is_fine: bool = False) -> dict[str, Any]:
    """Print the table; returns the counts for `--json`.

    Raises:
        UserError: the store holds no scan.
    """
    opened = Store.open(store)
    reasons = Counter(reason.split(":")[0] for _, _, reason in opened.refused)
    cases = opened.cases()
    if opened.refused:
        console.say(f"Refused ({len(opened.refused)}):")
        for _, source, reason in opened.refused[:SHOWN]:
            console.say(f"  {source}: {reason}")
        if len(opened.refused) > SHOWN:
            console.say(f"  ... and {len(opened.refused) - SHOWN} more, see {store / INDEX}")
    if not cases and not empty_is_fine:
        first = opened.refused[0] if opened.refused else ("", "", "")
        raise UserError(f"{store}: none of the scans could be taken; the first: {first[1]}: {first[2]}")
    console.say(_table(opened))
    if not tried:
        console.say(f"{store}: already done")
    return {
        "taken": len(cases),
        "refused": len(opened.refused),
        "reasons": dict(sorted(reasons.items())),
        "store": str(store),
        "added": added,
    }


def _table(store: Store) -> str:
    """Contents of the store, in a few lines."""
    cases = store.cases()
    spacing = " x ".join(f"{mm:g}" for mm in store.spec.spacing_mm)
    labelled = sum(case.labelled for case in cases)
    healthy = sum(case.healthy for case in cases)
    said = f"{labelled} with labels" + (f", {healthy} of them empty" if healthy else "")
    lines = [f"Taken: {len(cases)} scans, {said} ({store.spec.modality.upper()}, {spacing} mm)"]
    for split in ["", *store.splits]:
        mine = store.cases(split)
        if mine:
            name = split or "in no split"
            lines.append(f"  {name}: {len(mine)} scans, {sum(case.labelled for case in mine)} with labels")
    noted = Counter(note for case in cases for note in case.notes.split("; ") if note)
    lines += [f"  note: {note} ({count})" for note, count in noted.most_common(5)]
    return "\n".join(lines)


def dry_run(found: Found, rows: Sequence[TakenFor], spec: StoreSpec, *, empty_is_fine: bool = False) -> dict[str, Any]:
    """Report what would be done, from the headers of scans and label maps.

    Args:
        found: the scans.
        rows: what every file is taken for.
        spec: of the store.
        empty_is_fine: whether no scan has to be accepted.

    Raises:
        UserError: no scan would be accepted; the call itself would fail.
    """
    refused = [(row.file, row.why) for row in rows if row.what == "refused"]
    taken = len(found.sources) - len(refused)
    if not taken and not empty_is_fine:
        raise none_taken(refused)
    spacing = " x ".join(f"{mm:g}" for mm in spec.spacing_mm)
    what = f"{taken} scans at {spacing} mm as {spec.modality.upper()}"
    more = f", refuse {len(refused)}" if refused else ""
    console.say(f"Would take {what}{more}, by their headers; nothing was written")
    reasons = Counter(reason.split(":")[0] for _, reason in refused)
    files = [asdict(row) for row in rows]
    return {"taken": taken, "refused": len(refused), "reasons": dict(reasons), "store": "", "files": files}
