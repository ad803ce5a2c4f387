"""A classifier applied to scans: a table of class probabilities, one row per scan or point."""

from __future__ import annotations

import csv
import io
from functools import partial
from pathlib import Path

from alice3d import console
from alice3d.config import nearest
from alice3d.data.sources.scan_list import refuse
from alice3d.data.sources.sources import Source
from alice3d.data.tables.classes import Row, read_class_table
from alice3d.data.tables.csv_rows import POINT
from alice3d.errors import UserError
from alice3d.io.read import read_scan
from alice3d.io.volume import ScanError, Unoriented
from alice3d.memory import within_memory
from alice3d.tasks.classification.model import Classifier

SCORES = "scores.csv"


def points_by_scan(path: Path, found: dict[str, Source]) -> dict[str, list[Row]]:
    """Rows of a points table by scan.

    Raises:
        UserError: the table is wrong, or a case in it is not among the scans.
    """
    by_scan: dict[str, list[Row]] = {}
    for row in read_class_table(path, classes=False):
        if row.point_mm is None:
            raise UserError(f"{path}: no column {', '.join(POINT)}; the model classifies points")
        if row.case not in found:
            hint = nearest(row.case, found) if len(found) <= 8 else f"there are {len(found)} scans"
            raise UserError(f"{path}: line {row.line}: no scan {row.case!r}; {hint}")
        by_scan.setdefault(row.case, []).append(row)
    left_out = len(found) - len(by_scan)
    if left_out:
        console.warn(f"{path}: holds no point of {left_out} of the {len(found)} scans")
    return by_scan


def predict_scores(
    model: Classifier,
    wanted: dict[str, Source],
    points: dict[str, list[Row]] | None,
    device: str,
    refused: dict[str, str],
    unoriented: Unoriented = "refuse",
) -> tuple[str, int]:
    """The table of scores, and its number of rows; `unoriented` is the orientation of a file that gives none."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case", *(POINT if points else ()), "predicted", *(f"score_{name}" for name in model.classes)])
    written = 0
    with console.progress("Predicting", len(wanted)) as bar:
        for name, source in wanted.items():
            bar.advance(note=name)
            given = [row.point_mm for row in points[name] if row.point_mm is not None] if points else []
            try:
                with within_memory(partial(ScanError, name)):
                    volume = read_scan(source.path, files=source.files, unoriented=unoriented)
                    scores = model.of_volume(volume, given if points else None, device=device)
            except ScanError as error:
                refuse(name, error.reason, refused)
                continue
            for row, (predicted, probability) in enumerate(zip(scores.predicted, scores.probabilities, strict=True)):
                where = [f"{value:.6g}" for value in given[row]] if given else []
                table.writerow([name, *where, predicted, *(f"{value:.6g}" for value in probability)])
                written += 1
    return text.getvalue(), written
