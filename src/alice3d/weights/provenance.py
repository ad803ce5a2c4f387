"""Provenance of weights: training scans, identified by their voxels instead of their names, and source commit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alice3d import console
from alice3d.data.store import Case, Store
from alice3d.errors import UserError

SHOWN = 3
NOT_FOR_TESTING = ("pretrain", "train", "val")
"""Splits whose scans may have been used in training; in other splits this is refused."""


def described(cases: Iterable[Case]) -> list[dict[str, str]]:
    """Entries of a card's `cases`: id, checksum of the stored voxels, content of the scan itself, and, where the store
    knows it, the key of the patient."""
    return [
        {
            "id": case.id,
            "checksum": case.checksum,
            "content": case.content,
            **({"patient": case.patient} if case.patient != case.id else {}),
        }
        for case in cases
    ]


def seen(card: Mapping[str, Any]) -> set[str]:
    """Checksums of all training scans of a card's model, those of nested cards included."""
    return {str(entry[name]) for entry in cases_of(card) for name in ("checksum", "content") if entry.get(name)}


def cases_of(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every entry of `cases` of a card and of nested cards, each scan once."""
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
    """Ids of those cases that the model of a card was trained on; [] for a card without this information."""
    known = seen(card)
    return sorted(case.id for case in cases if case.content in known or case.checksum in known)


def of_seen_patients(card: Mapping[str, Any], cases: Iterable[Case], among: Iterable[Case] = ()) -> list[str]:
    """Ids of those cases that the model was not trained on itself, but on another scan of their patient.

    Args:
        card: of the model.
        cases: of a store.
        among: all cases of that store: keys of patients are its own, so that of a model trained from another store
            only the voxels tell which patients it saw.
    """
    cases, known = list(cases), seen(card)
    keys = {str(entry["patient"]) for entry in cases_of(card) if entry.get("patient")}
    patients = {case.patient for case in (*cases, *among) if {case.content, case.checksum} & known}
    met = patients | keys
    return sorted(case.id for case in cases if case.patient in met and not {case.content, case.checksum} & known)


def guard(
    card: Mapping[str, Any],
    cases: Iterable[Case],
    *,
    what: str,
    strict: bool,
    force: bool = False,
    among: Iterable[Case] = (),
) -> list[str]:
    """Report scans that a model was trained on, or whose patients it was.

    Args:
        card: of the encoder, matcher or model.
        cases: to be trained or scored on.
        what: for the message: `test split`, `training split`.
        strict: the cases are for testing: leakage is refused.
        force: warn only.
        among: all cases of their store, see `of_seen_patients`.

    Returns:
        ids of the training cases among them, and of other cases of their patients.

    Raises:
        UserError: strict, not forced, and some case or patient was used in training.
    """
    cases = list(cases)
    names, others = leaked(card, cases), of_seen_patients(card, cases, among)
    if not names and not others:
        return []
    parts = [f"{len(names)} scans of the {what} were seen in pre-training ({_some(names)})"] if names else []
    if others:
        more = f"of {len(others)} {'more' if names else f'scans of the {what}'} ({_some(others)})"
        parts.append(f"{more} other scans of the same patients were seen")
    message = "; ".join(parts)
    names = sorted([*names, *others])
    if strict and not force:
        raise UserError(f"{message}; the score would be too optimistic: choose other scans or give --allow-seen")
    console.warn(message)
    return names


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def guard_by_split(
    card: Mapping[str, Any], cases: Iterable[Case], *, force: bool = False, among: Iterable[Case] = ()
) -> list[str]:
    """`guard` for scored cases of several splits, strict for those in a test split.

    Raises:
        UserError: not forced, and some case of a test split was used in training.
    """
    by_split: dict[str, list[Case]] = {}
    among = list(among)
    for case in cases:
        by_split.setdefault(case.split, []).append(case)
    names = []
    for split, mine in sorted(by_split.items()):
        what = f"{split} split" if split else "part in no split"
        strict = split not in ("", *NOT_FOR_TESTING)
        names += guard(card, mine, what=what, strict=strict, force=force, among=among)
    return sorted(names)


def source_commit() -> str | None:
    """Commit of the source tree this program runs from, `-dirty` behind it where tracked files differ from it; None
    where it was installed from a package, or git cannot say."""
    root = Path(__file__).parents[3]
    if not (root / "pyproject.toml").is_file():
        return None
    words = ["git", "-C", str(root), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return None
    return done.stdout.strip() or None


def described_start(card: Mapping[str, Any], checksum: str) -> dict[str, Any]:
    """Card entry on the initial weights of a training: checksum, method, their own initial weights, and the training
    scans of all of them.

    Args:
        card: of those weights.
        checksum: of their file.
    """
    return {**_named(card), "checksum": checksum, "cases": cases_of(card)}


def _named(card: Mapping[str, Any]) -> dict[str, Any]:
    method, before = card.get("method"), card.get("init")
    return {
        "checksum": card.get("checksum"),
        "method": method.get("name") if isinstance(method, Mapping) else method,
        "spacing_mm": card.get("spacing_mm"),
        "init": _named(before) if isinstance(before, Mapping) else before,
    }


def guard_scores(
    card: dict[str, Any], cases: list[Case], split: str, *, allow_seen: bool, among: Iterable[Case] = ()
) -> None:
    """Report scored cases that were used in training; refuse those of a test split.

    Args:
        card: of the model.
        cases: to be scored.
        split: of the store.
        allow_seen: warn only.
        among: all cases of their store, see `of_seen_patients`.

    Raises:
        UserError: not allowed, and some case, or another scan of its patient, was used in training.
    """
    among = list(among)
    own = {"cases": card["cases"]}
    trained, others = leaked(own, cases), of_seen_patients(own, cases, among)
    if trained or others:
        where = f"{len(trained)} of {len(cases)} cases of split {split!r} ({_some(trained)})"
        if not trained:
            of = f"{len(others)} of {len(cases)} cases of split {split!r} ({others[0]}, …)"
            where = f"other scans of the patients of {of}"
        if split != card.get("split") and not allow_seen:
            raise UserError(
                f"the model was trained on {where}; choose another split, or give --allow-seen to score them"
            )
        console.warn(f"the model was trained on {where}: these scores do not apply to new scans")
    strict = split not in {card.get("split"), *NOT_FOR_TESTING}
    fresh = [case for case in cases if case.id not in {*trained, *others}]
    guard(card.get("encoder") or {}, fresh, what=f"{split} split", strict=strict, force=allow_seen, among=among)


def report_held_out(store: Store, cases: Iterable[Case]) -> list[str]:
    """Warn of held-out scans whose patients are among those to be trained on.

    A store does not hold such splits unless an earlier release drew them.

    Args:
        store: of the cases.
        cases: to be trained on.

    Returns:
        ids of the held-out cases.
    """
    cases = list(cases)
    trained, patients = {case.split for case in cases}, {case.patient for case in cases}
    held = [case for case in store.cases() if case.split not in ("", *NOT_FOR_TESTING, *trained)]
    names = sorted(case.id for case in held if case.patient in patients)
    if names:
        console.warn(
            f"{len(names)} held-out scans are of patients that are trained on ({_some(names)}): their scores will be "
            "too optimistic; prepare the scans into a new store, whose splits keep patients together"
        )
    return names
