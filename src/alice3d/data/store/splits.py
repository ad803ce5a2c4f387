"""Which case belongs to which split: a file that says so, or a seeded default that appending never reshuffles."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from alice3d.data.store import Case, Store
from alice3d.errors import UserError
from alice3d.files import write_text
from alice3d.io.read import case_id

SPLITS = "splits.json"
"""In the store: split to ids, of every case that was ever asked for."""
FORM = TypeAdapter(dict[str, list[str]])
"""A file of splits: name of a split (train, val, test, pretrain or any other) to ids of its cases."""
SHARES = (("test", 0.2), ("val", 0.1))
"""Of the labelled cases; the rest is train."""
FEW = 4
"""With fewer labelled cases there is no val."""


def read_splits(path: Path) -> dict[str, str]:
    """Case id to split, of a JSON file: split name to list of ids.

    Raises:
        UserError: no such file, no JSON of that form, or a case in two splits.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
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
        raise UserError(f"{path.name}: split {place[0]!r} must be a list of case ids") from None
    split_of: dict[str, str] = {}
    for split, ids in listed.items():
        for name in ids:
            name = case_id(Path(name))
            if split_of.setdefault(name, split) != split:
                raise UserError(f"{path.name}: case {name!r} is in split {split_of[name]!r} and in {split!r}")
    return split_of


def default_splits(
    labelled: Iterable[str], unlabelled: Iterable[str], seed: int, earlier: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Case id to split: 70 % train, 10 % val, 20 % test of the labelled cases, `pretrain` for the rest.

    Args:
        labelled, unlabelled: ids.
        seed: of the draw.
        earlier: splits of cases that stay as they are; new cases fill up what is missing to the shares.
    """
    earlier = dict(earlier or {})
    names = sorted(labelled)
    split_of = {name: earlier[name] for name in names if earlier.get(name, "pretrain") != "pretrain"}
    free = [name for name in names if name not in split_of]
    free = [free[i] for i in np.random.default_rng(seed).permutation(len(free))]
    for split, share in SHARES:
        wanted = round(share * len(names))
        if len(names) >= (2 if split == "test" else FEW):
            wanted = max(wanted, 1)
        for _ in range(max(wanted - list(split_of.values()).count(split), 0)):
            if free:
                split_of[free.pop()] = split
    split_of |= dict.fromkeys(free, "train")
    split_of |= {name: earlier.get(name, "pretrain") for name in unlabelled}
    return split_of


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
