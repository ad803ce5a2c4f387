"""The cases that a run chose when it began: it goes on with them, whatever has come into the store since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alice3d import console, outputs
from alice3d.data.store.store import Case, Store
from alice3d.errors import UserError

SHOWN = 5


def pin(store: Store, cases: Iterable[Case]) -> dict[str, Any]:
    """What a run keeps of its choice, as plain JSON values: the chosen cases, and all that there were."""
    return {"cases": {case.id: _content(case) for case in cases}, "known": [case.id for case in store.cases()]}


def pinned_cases(
    store: Store, out: Path, kind: str, settings: Mapping[str, Any], *, overwrite: bool
) -> list[Case] | None:
    """The cases of the run that a call goes on with, in its order; None where it begins one. New scans are named.

    Args:
        store: of the cases.
        out: folder in which the run writes.
        kind: of its result, such as `model`.
        settings: of the call, with all inputs but the store.
        overwrite: a run whose cases have changed is begun anew.

    Raises:
        UserError: a case of the run has left the store, has changed, or is now in another split.
    """
    kept = outputs.pinned(out, kind, settings)
    if kept is None:
        return None
    there = {case.id: case for case in store.cases()}
    for id, content in kept["cases"].items():
        if id in there and _content(there[id]) == content:
            continue
        if overwrite:
            return None
        what = "has changed since, or is in another split" if id in there else "has left the store"
        raise UserError(
            f"{store.path}: case {id!r}, from which the run in {outputs.shown(out)} learns, {what}; choose another "
            "folder, or give --overwrite to begin anew"
        )
    say_new(store, kept["known"])
    return [there[id] for id in kept["cases"]]


def say_new(store: Store, known: Iterable[str]) -> None:
    """Name the cases that came into the store after a run began."""
    before = set(known)
    new = [case.id for case in store.cases() if case.id not in before]
    if new:
        some = ", ".join(new[:SHOWN]) + (", ..." if len(new) > SHOWN else "")
        console.say(f"{len(new)} scans came into {store.path} after this run began and are left out of it: {some}")


def _content(case: Case) -> str:
    """Identifies a case's split, voxels and labels."""
    return hashlib.sha256("\0".join((case.split, case.checksum, case.label_checksum)).encode()).hexdigest()[:32]
