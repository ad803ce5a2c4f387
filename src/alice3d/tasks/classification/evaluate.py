"""Scores of a classifier on the rows of a class table."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from torch import nn

from alice3d import console, files
from alice3d.data.sources.scan_list import refuse
from alice3d.data.store import Store
from alice3d.data.tables.classes import Example, examples_of, read_class_table
from alice3d.data.tables.csv_rows import POINT
from alice3d.errors import UserError
from alice3d.io.volume import ScanError
from alice3d.memory import within_memory
from alice3d.metrics.classification import METRICS, overall_scores
from alice3d.metrics.intervals import in_words
from alice3d.nn.heads.classification import ClassificationNet
from alice3d.tasks.cases import scored_of
from alice3d.tasks.classification.job import ClassificationJob
from alice3d.tasks.classification.model import Classifier
from alice3d.tasks.settings import EvaluateConfig


def class_table_of(config: EvaluateConfig, weights: Path) -> Path:
    """The class table: as given, or the one that fine-tuning read."""

    if config.classes is not None:
        return config.classes
    try:
        kept = yaml.safe_load((weights.parent / "config.yaml").read_text(encoding="utf-8"))
        path = Path(kept["classes"])
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        raise UserError("--classes: give the CSV of the classes; config.yaml of the model does not name it") from None
    if not path.is_file():
        raise UserError(f"--classes: {path}, which the model was trained on, is missing; give the CSV of the classes")
    return path


def examples_to_score(model: Classifier, store: Store, table: Path, split: str) -> list[Example]:
    """The rows of a split, in the order of the cases; an unknown class is refused."""

    rows = read_class_table(table)
    for row in rows:
        if (row.point_mm is not None) != model.pointed:
            wanted = "points (x_mm, y_mm, z_mm)" if model.pointed else "whole scans (no x_mm, y_mm, z_mm)"
            raise UserError(f"{table}: the model classifies {wanted}; the table has none")
    if split not in store.splits:
        raise UserError(f"split: the store has no split {split!r}; it has {', '.join(store.splits) or 'none'}")
    found = [example for example in examples_of(rows, store, table) if example.case.split == split]
    if not found:
        raise UserError(f"{table}: no row is of a case of split {split!r}")
    unknown = sorted({example.name for example in found} - set(model.classes))
    if unknown:
        raise UserError(f"{table}: the model has no class {unknown[0]!r}; it has {', '.join(model.classes)}")
    if len({example.name for example in found}) == 1:
        console.warn(f"all rows of split {split!r} are of class {found[0].name!r}: AUROC is undefined")
    return sorted(found, key=lambda example: example.case.id)


def score_examples(
    model: Classifier, store: Store, examples: list[Example], device: str, refused: dict[str, str]
) -> NDArray[np.float64]:
    """Class probabilities (n, k) of the examples, without those of cases for which memory does not suffice: these go
    into `refused`, with the reason.

    Raises:
        UserError: memory suffices for none.
    """
    probabilities = []
    by_case: dict[str, list[Example]] = {}
    for example in examples:
        by_case.setdefault(example.case.id, []).append(example)
    with console.progress("Evaluating", len(by_case)) as bar:
        for id, its in by_case.items():
            centres = np.stack([example.centre_mm for example in its])
            try:
                with within_memory(partial(ScanError, id)):
                    probabilities.append(model.scores(store, its[0].case, centres, device=device))
            except ScanError as error:
                refuse(id, error.reason, refused)
            bar.advance(note=id)
    scored_of([its[0].case for its in by_case.values()], refused)
    return np.concatenate(probabilities)


def write_scores(out: Path, model: Classifier, examples: list[Example], probabilities: NDArray[np.float64]) -> None:
    """metrics.csv: one row per example: its class, the predicted class, and the probability of each class."""

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    point = POINT if model.pointed else ()
    table.writerow(["case", *point, "class", "predicted", *(f"score_{name}" for name in model.classes)])
    for example, probability in zip(examples, probabilities, strict=True):
        where = [f"{value:.6g}" for value in example.point_mm or ()]
        predicted = model.classes[int(probability.argmax())]
        table.writerow([example.case.id, *where, example.name, predicted, *(f"{value:.6g}" for value in probability)])
    files.write_text(out / "metrics.csv", text.getvalue())


def say_scores(result: dict[str, Any], config: EvaluateConfig, out: Path, model: Classifier) -> None:

    def shown(value: float | None) -> str:
        return "   - " if value is None else f"{value:.3f}"

    for metric in METRICS:
        entry = result[metric]
        name = metric.replace("_", " ").replace("auroc", "AUROC").replace("f1", "F1")
        console.say(f"{name:18} {in_words(entry, 3)}")
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


class ClassificationCheck:
    """AUROC, accuracy, balanced accuracy and F1 on the rows of `validate_split`, all of them, since this is cheap.

    Args:
        job: from `prepare_classification`.

    Raises:
        UserError: no row is of a case of that split.
    """

    def __init__(self, job: ClassificationJob) -> None:
        split = job.config.validate_split
        self.examples = [example for example in job.held if example.case.split == split]
        if not self.examples:
            raise UserError(
                f"{job.config.classes}: no row is of a case of split {split!r}, which --validate-every scores"
            )
        self.store = job.store
        self.reference = np.array([job.classes.index(example.name) for example in self.examples])
        card = job.card
        self.model = Classifier(
            job.net, card, job.rule, tuple(card["spacing_mm"]), job.classes, bool(card["points"]), job.field
        )

    def __call__(self, net: nn.Module) -> dict[str, float]:
        """`val_auroc` and the like of a network in evaluation mode; NaN is left out."""
        assert isinstance(net, ClassificationNet)
        model = replace(self.model, net=net)
        device = next(net.parameters()).device
        probabilities = [
            model.scores(self.store, example.case, example.centre_mm[None], device=device) for example in self.examples
        ]
        scores = overall_scores(self.reference, np.concatenate(probabilities), np.ones((1, len(self.examples))))
        found = {f"val_{metric}": float(scores[metric][0]) for metric in METRICS}
        return {name: value for name, value in found.items() if not np.isnan(value)}
