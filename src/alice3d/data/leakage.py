"""Whether a model saw a scan in training: by the scan's own voxels, whatever its name, format or spacing was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from alice3d import console
from alice3d.data.store import Case
from alice3d.errors import UserError

SHOWN = 3
NOT_FOR_TESTING = ("pretrain", "train", "val")
"""Splits whose scans training may have seen; of any other this is refused."""


def described(cases: Iterable[Case]) -> list[dict[str, str]]:
    """What a card keeps under `cases`: id, checksum of the stored voxels, and content of the scan itself."""
    return [{"id": case.id, "checksum": case.checksum, "content": case.content} for case in cases]


def seen(card: Mapping[str, Any]) -> set[str]:
    """Checksums of all scans that the model of a card has seen, those of the cards inside it included."""
    return {str(entry[name]) for entry in cases_of(card) for name in ("checksum", "content") if entry.get(name)}


def cases_of(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every entry of `cases` of a card and of the cards inside it, each scan once."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for key, value in card.items():
        entries: list[Any] = []
        if key == "cases" and isinstance(value, list):
            entries = value
        elif isinstance(value, Mapping):
            entries = cases_of(value)
        for entry in entries:
            if isinstance(entry, dict):
                found.setdefault(tuple(str(entry.get(name)) for name in ("id", "checksum", "content")), entry)
    return list(found.values())


def leaked(card: Mapping[str, Any], cases: Iterable[Case]) -> list[str]:
    """Ids of those cases whose voxels the model of a card has seen; [] for a card that does not say."""
    known = seen(card)
    return sorted(case.id for case in cases if case.content in known or case.checksum in known)


def guard(card: Mapping[str, Any], cases: Iterable[Case], *, what: str, strict: bool, force: bool = False) -> list[str]:
    """Tell of scans that a model has seen before.

    Args:
        card: of the encoder, matcher or model.
        cases: to be trained or scored on.
        what: for the message: `test split`, `training split`.
        strict: the cases are for testing: a leak is refused.
        force: the user knows of it: warn only.

    Returns:
        ids of the cases that were seen.

    Raises:
        UserError: strict, not forced, and some case was seen.
    """
    names = leaked(card, cases)
    if not names:
        return []
    some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    message = f"{len(names)} scans of the {what} were seen in pre-training ({some})"
    if strict and not force:
        raise UserError(f"{message}; the score would be flattered: choose other scans or give --allow-seen")
    console.warn(message)
    return names


def guard_by_split(card: Mapping[str, Any], cases: Iterable[Case], *, force: bool = False) -> list[str]:
    """`guard` for scored cases of several splits, strict for those that lie in a split for testing.

    Raises:
        UserError: not forced, and some case in a split for testing was seen.
    """
    by_split: dict[str, list[Case]] = {}
    for case in cases:
        by_split.setdefault(case.split, []).append(case)
    names = []
    for split, mine in sorted(by_split.items()):
        what = f"{split} split" if split else "part in no split"
        names += guard(card, mine, what=what, strict=split not in ("", *NOT_FOR_TESTING), force=force)
    return sorted(names)
