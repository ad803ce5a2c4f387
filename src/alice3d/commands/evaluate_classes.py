"""The part of `alice evaluate` that scores a classifier on the rows of a class table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alice3d import console, files, outputs
from alice3d.commands.evaluate import EvaluateConfig
from alice3d.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alice3d.data.store import Store
    from alice3d.data.tables.classes import Example
    from alice3d.tasks.classifier import Classifier


def evaluate_classes(config: EvaluateConfig, weights: Path) -> dict[str, Any]:
    """Score each row of the split; metrics.csv has a row for each, metrics.json the summary."""
    import numpy as np

    from alice3d.data.store import Store
    from alice3d.engine.device import resolve_device
    from alice3d.evaluation.classification import summarise_classes
    from alice3d.tasks.classifier import load_classifier

    model = load_classifier(weights)
    store = Store.open(config.store)
    if model.rule.modality != store.spec.modality:
        held, read = (one.upper() for one in (store.spec.modality, model.rule.modality))
        raise UserError(f"{store.path}: holds {held} scans; the model reads {read}")
    table = _table(config, weights)
    examples = _examples(model, store, table, config.split)
    from alice3d.weights.provenance import guard_scores

    scored = list({example.case.id: example.case for example in examples}.values())
    guard_scores(model.card, scored, config.split, allow_seen=config.allow_seen)
    out = config.out if config.out is not None else weights.parent / f"evaluation-{config.split}"
    settings = config.settings(model=files.file_sha256(weights), store=store.checksum, classes=files.file_sha256(table))
    state = outputs.check(out, "evaluation", settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{out}: already done")
        return outputs.earlier_result(out)
    device = resolve_device(config.device, config.threads)
    outputs.begin(out, "evaluation", settings, state=state, overwrite=config.overwrite)
    chances = _score(model, store, examples, str(device))
    reference = np.array([model.classes.index(example.name) for example in examples])
    cases = [example.case.id for example in examples]
    result = summarise_classes(cases, reference, chances, model.classes, seed=config.seed)
    _write(out, model, examples, chances)
    files.write_text(out / "metrics.json", json.dumps({**result, "settings": settings}, indent=1) + "\n")
    outputs.finish(out, result)
    _say(result, config, out, model)
    return result


def _table(config: EvaluateConfig, weights: Path) -> Path:
    """The class table: as given, or the one that fine-tuning read."""
    import yaml

    if config.classes is not None:
        return config.classes
    try:
        kept = yaml.safe_load((weights.parent / "config.yaml").read_text(encoding="utf-8"))
        path = Path(kept["classes"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        raise UserError("--classes: which CSV holds the classes? config.yaml beside the model does not say") from None
    if not path.is_file():
        raise UserError(f"--classes: {path}, which the model learnt from, is not there; give the CSV of the classes")
    return path


def _examples(model: Classifier, store: Store, table: Path, split: str) -> list[Example]:
    """The rows of a split, in the order of the cases; a class that the model does not know is refused."""
    from alice3d.data.tables.classes import examples_of, read_class_table

    rows = read_class_table(table)
    for row in rows:
        if (row.point_mm is not None) != model.pointed:
            wanted = "points (x_mm, y_mm, z_mm)" if model.pointed else "whole scans (no x_mm, y_mm, z_mm)"
            raise UserError(f"{table}: the model classifies {wanted}; the table does not hold them")
    if split not in store.splits:
        raise UserError(f"split: the store has no split {split!r}; it has {', '.join(store.splits) or 'none'}")
    found = [example for example in examples_of(rows, store, table) if example.case.split == split]
    if not found:
        raise UserError(f"{table}: no row is of a case of split {split!r}")
    unknown = sorted({example.name for example in found} - set(model.classes))
    if unknown:
        raise UserError(f"{table}: the model does not know class {unknown[0]!r}; it knows {', '.join(model.classes)}")
    if len({example.name for example in found}) == 1:
        console.warn(f"all rows of split {split!r} are of class {found[0].name!r}: AUROC does not exist")
    return sorted(found, key=lambda example: example.case.id)


def _score(model: Classifier, store: Store, examples: list[Example], device: str) -> NDArray[np.float64]:
    import numpy as np

    chances = []
    by_case: dict[str, list[Example]] = {}
    for example in examples:
        by_case.setdefault(example.case.id, []).append(example)
    with console.progress("Evaluating", len(by_case)) as bar:
        for id, its in by_case.items():
            centres = np.stack([example.centre_mm for example in its])
            chances.append(model.scores(store, its[0].case, centres, device=device))
            bar.advance(note=id)
    return np.concatenate(chances)


def _write(out: Path, model: Classifier, examples: list[Example], chances: NDArray[np.float64]) -> None:
    """metrics.csv: a row an example, its class, what was predicted, and the chance of each class."""
    from alice3d.data.tables.csv_rows import POINT

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    point = POINT if model.pointed else ()
    table.writerow(["case", *point, "class", "predicted", *(f"score_{name}" for name in model.classes)])
    for example, chance in zip(examples, chances, strict=True):
        where = [f"{value:.6g}" for value in example.point_mm or ()]
        told = model.classes[int(chance.argmax())]
        table.writerow([example.case.id, *where, example.name, told, *(f"{value:.6g}" for value in chance)])
    files.write_text(out / "metrics.csv", text.getvalue())


def _say(result: dict[str, Any], config: EvaluateConfig, out: Path, model: Classifier) -> None:
    from alice3d.evaluation.classification import METRICS

    def shown(value: float | None) -> str:
        return "   - " if value is None else f"{value:.3f}"

    for metric in METRICS:
        entry = result[metric]
        name = metric.replace("_", " ").replace("auroc", "AUROC").replace("f1", "F1")
        console.say(f"{name:18} {shown(entry['mean'])} ({shown(entry['low'])}-{shown(entry['high'])})")
    width = max(len(name) for name in model.classes)
    console.say(f"{'':{width}}  count  AUROC  recall  F1     predicted as {', '.join(model.classes)}")
    for (name, entry), counts in zip(result["by_class"].items(), result["confusion"]["counts"], strict=True):
        scores = "  ".join(shown(entry[score]) for score in ("auroc", "recall", "f1"))
        console.say(f"{name:{width}}  {entry['count']:5}  {scores}   {' '.join(map(str, counts))}")
    what = f"{result['points']} points of " if model.pointed else ""
    points = " --points POINTS.csv" if model.pointed else ""
    console.say(
        f"{what}{result['cases']} cases. Scores written to {out}. "
        f"Next: alice predict {config.model} SCANS PREDICTIONS{points}"
    )
