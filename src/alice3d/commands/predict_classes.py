"""The part of `alice predict` that gives class scores: a CSV with a row a scan, or a row a point."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alice3d import console, files, outputs
from alice3d.commands.predict import PredictConfig
from alice3d.errors import UserError

if TYPE_CHECKING:
    from alice3d.data.sources.sources import Source
    from alice3d.data.tables.classes import Row
    from alice3d.tasks.classifier import Classifier

SCORES = "scores.csv"


def predict_classes(config: PredictConfig, weights: Path) -> dict[str, Any]:
    """Write OUT/scores.csv; a scan that cannot be read is named and the rest is done."""
    from alice3d.data.sources.scan_list import find_scans, readable
    from alice3d.engine.device import resolve_device
    from alice3d.tasks.classifier import load_classifier

    model = load_classifier(weights)
    if model.pointed and config.points is None:
        raise UserError(
            "--points: a CSV with the columns case, x_mm, y_mm, z_mm is needed; the model classifies points"
        )
    if not model.pointed and config.points is not None:
        raise UserError("--points: the model classifies whole scans")
    found = {name.removesuffix(".gz").removesuffix(".nii"): source for name, source in find_scans(config.scans).items()}
    points = _points(config.points, found) if config.points is not None else None
    refused: dict[str, str] = {}
    chosen = {name: source for name, source in found.items() if points is None or name in points}
    wanted = readable(chosen, refused)
    if not wanted:
        name, reason = next(iter(refused.items()))
        raise UserError(f"none of {len(chosen)} scans can be read; {name}: {reason}")
    device = resolve_device(config.device, config.threads)
    contents = {
        name: [files.file_sha256(file) for file in source.files or [source.path]] for name, source in wanted.items()
    }
    given = {"points": files.file_sha256(config.points)} if config.points is not None else {}
    settings = config.settings(model=files.file_sha256(weights), scans=contents, **given)
    state = outputs.check(config.out, "prediction", settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    outputs.begin(config.out, "prediction", settings, state=state, overwrite=config.overwrite)
    text, rows = _predict(model, wanted, points, str(device), refused)
    if not rows:
        name, reason = next(iter(refused.items()))
        raise UserError(f"none of {len(chosen)} scans could be classified; {name}: {reason}")
    files.write_text(config.out / SCORES, text)
    result = {
        "written": [SCORES],
        "rows": rows,
        "refused": [{"scan": name, "reason": reason} for name, reason in refused.items()],
        "classes": list(model.classes),
        "out": str(config.out),
    }
    outputs.finish(config.out, result)
    tail = f", {len(refused)} scans refused" if refused else ""
    console.say(f"{rows} rows of class scores written to {config.out / SCORES}{tail}")
    return result


def _points(path: Path, found: dict[str, Source]) -> dict[str, list[Row]]:
    """Rows of a points table by scan.

    Raises:
        UserError: the table is wrong, or a case of it is none of the scans.
    """
    from alice3d.config import nearest
    from alice3d.data.tables.classes import read_class_table
    from alice3d.data.tables.csv_rows import POINT

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


def _predict(
    model: Classifier,
    wanted: dict[str, Source],
    points: dict[str, list[Row]] | None,
    device: str,
    refused: dict[str, str],
) -> tuple[str, int]:
    """The table of scores, and how many rows it has."""
    import numpy as np

    from alice3d.data.preprocessing.preprocess import prepare_array
    from alice3d.data.sources.scan_list import refuse
    from alice3d.data.tables.classes import outside
    from alice3d.data.tables.csv_rows import POINT
    from alice3d.io.read import read_scan
    from alice3d.io.volume import ScanError

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case", *(POINT if points else ()), "predicted", *(f"score_{name}" for name in model.classes)])
    written = 0
    with console.progress("Predicting", len(wanted)) as bar:
        for name, source in wanted.items():
            bar.advance(note=name)
            try:
                volume = read_scan(source.path, files=source.files)
                prepared = prepare_array(volume, spacing_mm=model.spacing_mm, modality=model.rule.modality)
            except ScanError as error:
                refuse(name, error.reason, refused)
                continue
            given = [row.point_mm for row in points[name] if row.point_mm is not None] if points else []
            faults = [reason for point in given if (reason := outside(point, prepared.grid))]
            if faults:
                refuse(name, faults[0], refused)
                continue
            chances = model.scores_of_scan(prepared, np.array(given) if points else None, device=device)
            for row, chance in enumerate(chances):
                where = [f"{value:.6g}" for value in given[row]] if given else []
                told = model.classes[int(chance.argmax())]
                table.writerow([name, *where, told, *(f"{value:.6g}" for value in chance)])
                written += 1
    return text.getvalue(), written
