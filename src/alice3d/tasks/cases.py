"""Labelled cases for training and scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from alice3d import console
from alice3d.data.store import Case, Store
from alice3d.data.store.pins import pinned_cases
from alice3d.data.tables.classes import Example
from alice3d.errors import UserError
from alice3d.files import file_sha256
from alice3d.tasks.settings import FinetuneSettings
from alice3d.weights.files import find_weights


def labelled_cases(store: Store, split: str) -> list[Case]:
    """Cases of a split with a reference, healthy ones with an empty label map among them, sorted by id.

    Raises:
        UserError: no such split, or no such case in it.
    """
    if split not in store.splits:
        known = ", ".join(store.splits) or "none"
        raise UserError(f"split: the store has no split {split!r}; it has {known}")
    found = [case for case in store.cases(split) if case.labelled]
    if not found:
        raise UserError(f"split: no case of split {split!r} has labels; give `alice prepare` a --labels folder")
    return found


def pinned_training_cases(store: Store, config: FinetuneSettings) -> list[Case] | None:
    """The training cases of the run that a call goes on with; None where it begins one.

    Raises:
        UserError: one of them has changed or left the store; or the encoder is missing.
    """
    inputs: dict[str, str | None] = {"encoder": None}
    if config.encoder is not None:
        inputs["encoder"] = file_sha256(find_weights(config.encoder, "encoder", "matcher"))
    if config.classes is not None and config.classes.is_file():
        inputs["classes"] = file_sha256(config.classes)
    settings = config.settings(**inputs)
    return pinned_cases(store, config.out, "model", settings, overwrite=config.overwrite)


def refuse_healthy(cases: Iterable[Case], what: str) -> None:
    """Refuse cases none of which shows a structure.

    Args:
        cases: labelled ones.
        what: they are for the message, such as `training cases`.

    Raises:
        UserError: all of their label maps are empty.
    """
    given = list(cases)
    if given and all(case.healthy for case in given):
        raise UserError(
            f"labels: all {len(given)} {what} are healthy (their label maps are empty): no structure is there; choose "
            "another split"
        )


def draw_cases(
    cases: list[Case],
    count: int | None,
    seed: int,
    shows: Callable[[Case], Iterable[int | str]] = lambda case: case.structures,
) -> list[Case]:
    """The cases of the first `count` patients of a seeded order: the subset of 5 is part of that of 20 with the same
    seed.

    In that order, patients that add a new structure come first, so that a small subset contains as many structures as
    possible; healthy ones, whose label maps are empty, come with the rest.

    Args:
        cases: labelled ones.
        count: number of patients, each with all of its cases; None takes all.
        seed: of the order.
        shows: the structures of a case, or the classes of its rows.

    Raises:
        UserError: there are fewer.
    """
    if count is None:
        return cases
    patients = patients_of(cases)
    if count > len(patients):
        of = "labelled cases" if len(patients) == len(cases) else "patients with labelled cases"
        raise UserError(f"--labels: {count} {of} are requested, the training split has {len(patients)}")
    shuffled = [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]
    seen: set[int | str] = set()
    first: list[list[Case]] = []
    rest: list[list[Case]] = []
    for mine in shuffled:
        shown = {one for case in mine for one in shows(case)}
        (rest if seen.issuperset(shown) else first).append(mine)
        seen.update(shown)
    return [case for mine in [*first, *rest][:count] for case in mine]


def patients_of(cases: Iterable[Case]) -> list[list[Case]]:
    """The cases of each patient, in the order of their first."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.patient, []).append(case)
    return list(found.values())


def unlearnt(train: Iterable[Case], scored: Iterable[Case]) -> list[int]:
    """Label values that scored cases show and no training case does, sorted: nothing can learn those structures."""
    shown = {value for case in scored for value in case.structures}
    return sorted(shown - {value for case in train for value in case.structures})


SHOWN = 5


def draw_examples(
    held: list[Example], store: Store, config: FinetuneSettings, pinned: list[Case] | None = None
) -> tuple[list[Case], list[Example], tuple[str, ...]]:
    """The sampled cases of the training split, their examples, and the classes of the whole table, sorted.

    With the cases of an earlier call, `pinned`, these and the classes that they show.

    Raises:
        UserError: an unknown split, one without rows, too few cases, one class only, or a class without a training
            case.
    """
    if config.split not in store.splits:
        raise UserError(f"split: the store has no split {config.split!r}; it has {', '.join(store.splits) or 'none'}")
    if pinned is not None:
        ids = {case.id for case in pinned}
        shown_by = [example for example in held if example.case.id in ids]
        return pinned, shown_by, tuple(sorted({example.name for example in shown_by}))
    classes = tuple(sorted({example.name for example in held}))
    if len(classes) < 2:
        raise UserError(f"{config.classes}: all rows are of class {classes[0]!r}; at least two classes are needed")
    shown: dict[str, set[str]] = {}
    for example in held:
        if example.case.split == config.split:
            shown.setdefault(example.case.id, set()).add(example.name)
    cases = [case for case in store.cases(config.split) if case.id in shown]
    if not cases:
        raise UserError(f"{config.classes}: no row is of a case of split {config.split!r}")
    cases = draw_cases(cases, config.labels, config.seed, shows=lambda case: shown[case.id])
    drawn = {case.id for case in cases}
    lacking = sorted(set(classes) - set().union(*(shown[id] for id in drawn)))
    if lacking:
        some = ", ".join(lacking[:SHOWN]) + (", ..." if len(lacking) > SHOWN else "")
        raise UserError(
            f"{config.classes}: none of the {len(cases)} training cases has class {some}; use more --labels or "
            "leave its rows out"
        )
    return cases, [example for example in held if example.case.id in drawn], classes


def scored_of(cases: list[Case], refused: Mapping[str, str]) -> list[Case]:
    """The cases that were not refused, said where some were.

    Raises:
        UserError: all were.
    """
    if not refused:
        return cases
    kept = [case for case in cases if case.id not in refused]
    if not kept:
        name, reason = next(iter(refused.items()))
        raise UserError(f"none of {len(cases)} cases could be scored; {name}: {reason}")
    console.warn(f"{len(refused)} of {len(cases)} cases are refused: the scores are those of the others")
    return kept


def named_refusals(refused: Mapping[str, str]) -> dict[str, Any]:
    """The key `refused` of `--json`, where there are any."""
    return {"refused": [{"case": name, "reason": reason} for name, reason in refused.items()]} if refused else {}
