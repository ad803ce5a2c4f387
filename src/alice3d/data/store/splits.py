"""Which case belongs to which split: a file that says so, or a seeded default that appending never reshuffles."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from alice3d.data.store import Case, Store
from alice3d.errors import UserError
from alice3d.files import unique_keys, write_text
from alice3d.io.read import case_id

SPLITS = "splits.json"
"""In the store: split to ids, of every case that was ever asked for."""


class ListedCase(BaseModel):
    """A case of a file of splits, with its patient."""

    model_config = ConfigDict(extra="forbid")

    id: str
    """Case id."""
    patient: str = ""
    """Any identifier of the patient, the same for all of its cases; the store keeps a salted hash of it."""


FORM = TypeAdapter(dict[str, list[str | ListedCase]])
"""A file of splits: name of a split (train, val, test, pretrain or any other) to its cases, ids or `ListedCase`."""
SHARES = (("test", 0.2), ("val", 0.1))
"""Of the patients with labelled cases; the rest is train."""
FEW = 4
"""With fewer patients with labelled cases there is no val."""


def read_splits(path: Path) -> dict[str, str]:
    """Case id to split, of a JSON file: split name to list of cases.

    Raises:
        UserError: no such file, no JSON of that form, or a case in two splits.
    """
    split_of: dict[str, str] = {}
    for split, cases in _listed(path).items():
        for case in cases:
            name = case_id(Path(case.id))
            if split_of.setdefault(name, split) != split:
                raise UserError(f"{path.name}: case {name!r} is in split {split_of[name]!r} and in {split!r}")
    return split_of


def read_patients(path: Path) -> dict[str, str]:
    """Case id to patient, of those cases of a file of splits that name theirs.

    Raises:
        UserError: as `read_splits`.
    """
    cases = [case for of_split in _listed(path).values() for case in of_split]
    return {case_id(Path(case.id)): case.patient.strip() for case in cases if case.patient.strip()}


def _listed(path: Path) -> dict[str, list[ListedCase]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique_keys)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name}: splits cannot be read ({getattr(error, 'strerror', 'not UTF-8')})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path.name}: no valid JSON ({error})") from None
    try:
        listed = FORM.validate_python(content, strict=True)
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        if not place:
            raise UserError(f"{path.name}: splits must be a mapping of split name to a list of case ids") from None
        raise UserError(f"{path.name}: split {place[0]!r} must be a list of case ids, or of id and patient") from None
    return {split: [ListedCase(id=one) if isinstance(one, str) else one for one in of] for split, of in listed.items()}


def default_splits(
    labelled: Iterable[str],
    unlabelled: Iterable[str],
    seed: int,
    earlier: Mapping[str, str] | None = None,
    patients: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Case id to split: 70 % train, 10 % val, 20 % test of the patients with labelled cases, `pretrain` for the rest.

    All cases of a patient get one split. A new case joins that of its patient's earlier ones; those that wait in
    `pretrain` follow once their patient has a labelled case, and is drawn.

    Args:
        labelled, unlabelled: ids.
        seed: of the draw.
        earlier: splits of cases that stay as they are; new patients fill up what is missing to the shares.
        patients: case id to the first case id of its patient; a case that is not named is its own patient.
    """
    earlier, patients = dict(earlier or {}), patients or {}
    names = sorted(labelled)
    settled: dict[str, str] = {}
    for name in sorted(earlier):
        if earlier[name] != "pretrain":
            settled.setdefault(patients.get(name, name), earlier[name])
    drawn = _drawn(sorted({patients.get(name, name) for name in names}), seed, settled)
    found = {name: earlier.get(name, "pretrain") for name in (*earlier, *names, *unlabelled)}
    for name, split in found.items():
        if split == "pretrain":
            first = patients.get(name, name)
            found[name] = drawn.get(first) or settled.get(first, "pretrain")
    asked = {*names, *unlabelled}
    return {name: split for name, split in found.items() if name in asked or split != earlier[name]}


def _drawn(patients: list[str], seed: int, settled: Mapping[str, str]) -> dict[str, str]:
    """Patient to split, of those with labelled cases; settled ones stay."""
    split_of = {name: settled[name] for name in patients if name in settled}
    free = [name for name in patients if name not in split_of]
    free = [free[i] for i in np.random.default_rng(seed).permutation(len(free))]
    for split, share in SHARES:
        wanted = round(share * len(patients))
        if len(patients) >= (2 if split == "test" else FEW):
            wanted = max(wanted, 1)
        for _ in range(max(wanted - list(split_of.values()).count(split), 0)):
            if free:
                split_of[free.pop()] = split
    return split_of | dict.fromkeys(free, "train")


def torn_patients(split_of: Mapping[str, str], patients: Mapping[str, str]) -> list[dict[str, str]]:
    """Case id to split, of each patient whose cases lie in two splits or more; cases in none do not count.

    Args:
        split_of: case id to split; "" where it is in none.
        patients: case id to the first case id of its patient.
    """
    found: dict[str, dict[str, str]] = {}
    for name in sorted(split_of):
        if split_of[name]:
            found.setdefault(patients.get(name, name), {})[name] = split_of[name]
    return [of for _, of in sorted(found.items()) if len(set(of.values())) > 1]


def write_splits(folder: Path, split_of: Mapping[str, str]) -> None:
    """Keep the splits in the store, atomically."""
    content: dict[str, list[str]] = {}
    for name, split in sorted(split_of.items()):
        if split:
            content.setdefault(split, []).append(name)
    write_text(folder / SPLITS, json.dumps(content, indent=1) + "\n")


AUTO_SPLITS = ("pretrain", "train")
"""Splits that self-supervised training takes by default; all others stay unseen."""


def choose_cases(store: Store, split: str) -> list[Case]:
    """Cases of the named splits (comma separated); `auto` takes pretrain and train, or all where none is in a split.

    Raises:
        UserError: no case in them, or `auto` where every split has another name: any of them may be held out.
    """
    cases = store.cases()
    known = store.splits
    if split == "auto":
        names = [name for name in AUTO_SPLITS if name in known]
        if known and not names:
            raise UserError(
                f"--split auto takes {' and '.join(AUTO_SPLITS)}, the store has only {', '.join(known)}; give --split "
                "with those to take"
            )
        return [case for case in cases if case.split in names] if names else cases
    names = [name.strip() for name in split.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"--split: the store has no split {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    return [case for case in cases if case.split in names]
