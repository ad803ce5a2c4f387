"""The score of every unit of a comparison as a table, for analyses of one's own, and its reading."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from alice3d.comparison.table import Unit

SCORES = "scores.csv"
COLUMNS = {
    "method": "the arm's name",
    "labels": "labelled training cases; empty for measures without labels",
    "seed": "of training and of the labelled subset",
    "measure": "`linear_dice`, `knn_accuracy`, `landmark_mm` or `dice`",
    "case": "that is scored; of landmarks the query",
    "key": "of landmarks the case in which the structure is searched for; else empty",
    "structure": "of landmarks; else empty: the mean over the structures of the case",
    "value": "the score, with all its digits",
    "patient": "the first case id of the case's patient: cases of one patient are no independent units",
}
"""Columns, and what they hold."""


def scores_csv(units: Sequence[Unit], patients: Mapping[str, str]) -> str:
    """One row per unit.

    Args:
        units: scores of cases.
        patients: case id to the first case id of its patient.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for unit in units:
        key, _, structure = unit.key.partition("/")
        labels = "" if unit.labels is None else unit.labels
        about = (unit.method, labels, unit.seed, unit.measure, unit.case, key, structure)
        rows.writerow((*about, repr(float(unit.value)), patients.get(unit.case, unit.case)))
    return text.getvalue()


def read_scores(path: Path) -> tuple[list[Unit], dict[str, str]]:
    """The units of `scores_csv`, and case id to the first case id of its patient."""
    units, patients = [], {}
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        labels, key = int(row["labels"]) if row["labels"] else None, row["key"]
        key = f"{key}/{row['structure']}" if key else ""
        about = (row["method"], labels, int(row["seed"]), row["measure"], row["case"], key)
        units.append(Unit(*about, float(row["value"])))
        patients[row["case"]] = row["patient"]
    return units, patients
