"""Arms of a comparison: scores per case and seed, their table, and paired tests against one arm."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alice3d.metrics.paired_tests import holm, paired_difference, signed_rank

LOWER_IS_BETTER = ("landmark_mean_mm", "landmark_median_mm")
TESTS = (
    "differences paired by case and seed; 95 % intervals and p by Student's t with cases (for landmarks both cases of "
    "a pair) and seeds as crossed random effects, so for other cases and other seeds (with one seed: for other cases "
    "only); in parentheses p corrected by Holm over the arms of a measure; Wilcoxon signed-rank over cases, "
    "differences averaged over seeds; where a patient has several cases, it counts as one"
)
"""What the columns of the tests mean."""


@dataclass(frozen=True)
class Unit:
    """One score of one arm, for the smallest unit that is scored.

    Attributes:
        method: the arm's name.
        labels: labelled training cases; None for measures without labels.
        seed: of training and of the labelled subset.
        measure: `linear_dice`, `knn_accuracy`, `landmark_mm` or `dice`.
        case: that is scored; of landmarks the query.
        key: of landmarks the key's case and the structure, else "".
        value: the score.
    """

    method: str
    labels: int | None
    seed: int
    measure: str
    case: str
    key: str
    value: float


def dice_by_case(metrics: Path, left_out: Collection[int] = ()) -> dict[str, float]:
    """Mean Dice over the structures of each case, from the `metrics.csv` of `alice evaluate`; without label values.

    Rows of structures that the reference lacks have no Dice and are left out.
    """
    found: dict[str, list[float]] = {}
    for row in csv.DictReader(metrics.read_text(encoding="utf-8").splitlines()):
        if row["dice"] and int(row["value"]) not in left_out:
            found.setdefault(row["case"], []).append(float(row["dice"]))
    return {case: sum(values) / len(values) for case, values in found.items()}


def by_patient(units: Sequence[Unit], patients: Mapping[str, str]) -> list[Unit]:
    """Units whose cases are patients: the mean of a patient's cases; landmarks stay as they are.

    Args:
        units: scores of cases.
        patients: case id to the patient; a case that is not named is its own.
    """
    found: dict[tuple[Any, ...], list[Unit]] = {}
    for unit in units:
        owner = (unit.case, unit.key) if unit.key else (patients.get(unit.case, unit.case), "")
        found.setdefault((unit.method, unit.labels, unit.seed, unit.measure, *owner), []).append(unit)
    return [
        replace(its[0], case=key[4], value=its[0].value if len(its) == 1 else float(np.mean([u.value for u in its])))
        for key, its in found.items()
    ]


Cell = tuple[str, int | None, int, str]


def cells_of(units: Sequence[Unit]) -> dict[Cell, list[Unit]]:
    """Units by (method, labels, seed, measure)."""
    found: dict[Cell, list[Unit]] = {}
    for unit in units:
        found.setdefault((unit.method, unit.labels, unit.seed, unit.measure), []).append(unit)
    return found


def table(units: Sequence[Unit]) -> list[dict[str, Any]]:
    """Rows of `method`, `labels`, `seed`, `measure`, `value`: means over cases, or over patients
    (`by_patient`); of landmarks mean and median."""
    rows = []
    for (method, labels, seed, measure), its in cells_of(units).items():
        values = [unit.value for unit in its]
        kinds = {measure: float(np.mean(values))}
        if measure == "landmark_mm":
            kinds = {"landmark_mean_mm": float(np.mean(values)), "landmark_median_mm": float(np.median(values))}
        rows += [
            {"method": method, "labels": labels, "seed": seed, "measure": name, "value": value}
            for name, value in kinds.items()
        ]
    return rows


def means(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int | None, str], list[float]]:
    """Values of all seeds by (measure, labels, method)."""
    found: dict[tuple[str, int | None, str], list[float]] = {}
    for row in rows:
        found.setdefault((row["measure"], row["labels"], row["method"]), []).append(row["value"])
    return found


def best(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The arm with the best mean over seeds, of each measure and number of labels."""
    found: dict[tuple[str, int | None], tuple[str, float]] = {}
    for (measure, labels, method), values in means(rows).items():
        mean, sign = float(np.mean(values)), -1 if measure in LOWER_IS_BETTER else 1
        held = found.get((measure, labels))
        if held is None or sign * mean > sign * held[1]:
            found[(measure, labels)] = (method, mean)
    return [
        {"measure": measure, "labels": labels, "method": method, "value": value}
        for (measure, labels), (method, value) in found.items()
    ]


def paired_tests(
    units: Sequence[Unit], reference: str, patients: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Every arm against the reference, over the cases and seeds that both have, by measure and number of labels.

    Args:
        units: scores of cases, or of patients (`by_patient`).
        reference: the arm.
        patients: case id to the patient, where one has several cases: landmarks of its cases leave together.
    """
    owners = patients or {}
    kinds = list(dict.fromkeys((unit.measure, unit.labels) for unit in units))
    found = []
    for measure, labels in kinds:
        here = [unit for unit in units if (unit.measure, unit.labels) == (measure, labels)]
        known = {(unit.seed, unit.case, unit.key): unit.value for unit in here if unit.method == reference}
        rows: list[dict[str, Any]] = []
        for method in dict.fromkeys(unit.method for unit in here):
            its = [u for u in here if u.method == method and (u.seed, u.case, u.key) in known]
            if method == reference or not its:
                continue
            differences = [unit.value - known[(unit.seed, unit.case, unit.key)] for unit in its]
            second = [_owner(unit.key.split("/")[0], owners) for unit in its] if its[0].key else None
            seeds, cases = [unit.seed for unit in its], [_owner(unit.case, owners) for unit in its]
            rows.append(
                {
                    "measure": "landmark_mean_mm" if measure == "landmark_mm" else measure,
                    "labels": labels,
                    "method": method,
                    "reference": reference,
                    **paired_difference(differences, seeds, cases, second),
                    "p_wilcoxon": signed_rank(differences, cases),
                    "cases": len(set(cases)),
                    "seeds": len(set(seeds)),
                }
            )
        corrected = holm([float(row["p"]) for row in rows])
        found += [{**row, "p_holm": p} for row, p in zip(rows, corrected, strict=True)]
    return found


def _owner(case: str, patients: Mapping[str, str]) -> str:
    return patients.get(case, case)
