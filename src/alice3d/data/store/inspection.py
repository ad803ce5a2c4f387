"""Quality control of a store: duplicate scans, outliers of spacing, field of view and intensity."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alice3d.data.store.index import integers, numbers
from alice3d.data.store.store import Case, Store

FAR_OFF = 6.0
"""A value this many robust standard deviations from the median is an outlier ..."""
AT_LEAST = 0.25
"""... if it also differs from it by this fraction."""
FEW = 8
"""With fewer scans no outliers are reported."""
INTENSITIES = {"mean of the body": "mean", "99.5 percentile of the body": "p995", "smallest value": "min"}
"""Measure to the name of its statistic."""


@dataclass(frozen=True)
class Outlier:
    """Why a person should look at a case.

    Attributes:
        case: id.
        what: was noticed.
        kind: the same for outliers of the same kind: a measure's name, or the note without its numbers.
    """

    case: str
    what: str
    kind: str


def duplicates(store: Store) -> list[list[str]]:
    """Ids of cases whose scans hold the same voxels, in groups; sorted."""
    groups: dict[str, list[str]] = defaultdict(list)
    for case in store.cases():
        groups[case.content].append(case.id)
    return sorted(group for group in groups.values() if len(group) > 1)


def split_leaks(store: Store) -> list[list[str]]:
    """The duplicates that lie in different splits."""
    return [group for group in duplicates(store) if len({store.case(name).split for name in group}) > 1]


def source_spacing(store: Store, case: Case) -> tuple[float, ...]:
    """Voxel size (3,) in mm along R, A, S of the source scan."""
    return numbers(store.rows[case.id]["source_spacing_mm"])


def source_shape(store: Store, case: Case) -> tuple[int, ...]:
    """Voxels (3,) along R, A, S of the source scan."""
    return integers(store.rows[case.id]["source_shape"])


def measures(store: Store) -> dict[str, NDArray[np.float64]]:
    """One value per case, in the order of `store.cases()`, for each measure that is compared."""
    cases = store.cases()
    spacing = np.array([source_spacing(store, case) for case in cases]).reshape(-1, 3)
    shape = np.array([source_shape(store, case) for case in cases]).reshape(-1, 3)
    body = np.array([np.subtract(case.body_box_mm[1], case.body_box_mm[0]) for case in cases]).reshape(-1, 3)
    found: dict[str, NDArray[np.float64]] = {}
    for axis, name in enumerate("RAS"):
        found[f"spacing along {name} (mm)"] = spacing[:, axis]
        found[f"field of view along {name} (mm)"] = (spacing * shape)[:, axis]
        found[f"body along {name} (mm)"] = body[:, axis]
    for name, key in INTENSITIES.items():
        found[name] = np.array([case.stats[key] for case in cases])
    return found


def outliers(store: Store, values: Mapping[str, NDArray[np.float64]] | None = None) -> list[Outlier]:
    """Cases that lie far off the others in some measure, and those with notes, however many; sorted by case."""
    values = measures(store) if values is None else values
    cases = store.cases()
    noted = [(case.id, note) for case in cases for note in case.notes.split("; ") if note]
    found = [Outlier(case, note, re.sub(r"\d[\d.]*", "N", note.split(":")[0])) for case, note in noted]
    for name, column in values.items() if len(cases) >= FEW else ():
        if store.spec.modality == "mr" and name in INTENSITIES:  # MR has no unit: values differ from scan to scan
            continue
        middle = float(np.median(column))
        spread = max(1.4826 * float(np.median(np.abs(column - middle))), 1e-9)
        scale = max(abs(middle), 1e-9)
        for case, value in zip(cases, column, strict=True):
            if abs(value - middle) > FAR_OFF * spread and abs(value - middle) > AT_LEAST * scale:
                found.append(Outlier(case.id, f"{name} is {value:.4g}, median is {middle:.4g}", name))
    return sorted(found, key=lambda one: one.case)


def by_kind(remarks: Sequence[Outlier]) -> dict[str, list[Outlier]]:
    """Outliers of each kind, rare kinds first."""
    kinds: dict[str, list[Outlier]] = defaultdict(list)
    for one in remarks:
        kinds[one.kind].append(one)
    return dict(sorted(kinds.items(), key=lambda item: (len(item[1]), item[0])))
