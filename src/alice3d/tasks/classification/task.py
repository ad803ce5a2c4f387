"""Classification as a task of `alice finetune`, `evaluate` and `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from alice3d import files, outputs
from alice3d.data.sources.sources import Source
from alice3d.data.store import Store
from alice3d.engine.fit import FitResult
from alice3d.errors import UserError
from alice3d.metrics.classification import summarise_classes
from alice3d.tasks.base import Selection, Task
from alice3d.tasks.cases import named_refusals
from alice3d.tasks.classification.evaluate import (
    ClassificationCheck,
    class_table_of,
    examples_to_score,
    say_scores,
    score_examples,
    write_scores,
)
from alice3d.tasks.classification.job import ClassificationJob, learn_classes, prepare_classification
from alice3d.tasks.classification.model import Classifier, load_classifier
from alice3d.tasks.classification.predict import SCORES, points_by_scan, predict_scores
from alice3d.tasks.settings import EvaluateConfig, FinetuneSettings, PredictConfig


class Classification(Task):
    """A class for every scan, or for points in scans, trained on a table."""

    uses = (frozenset(FinetuneSettings.model_fields) | {"points"}) - {
        *("structure_weight", "anywhere", "linear_voxels", "linear_rounds")
    }
    done = "classified"

    def prepare(self, config: FinetuneSettings, options: Any) -> ClassificationJob:
        """See `prepare_classification`."""
        return prepare_classification(config)

    def train(
        self, job: ClassificationJob, state: outputs.State, *, watch: bool
    ) -> tuple[FitResult, nn.Module, dict[str, Any]]:
        """See `learn_classes`."""
        return learn_classes(job, state, ClassificationCheck(job) if watch else None)

    def load(self, weights: Path) -> Classifier:
        """See `load_classifier`."""
        return load_classifier(weights)

    def select_cases(self, model: Classifier, store: Store, config: EvaluateConfig, weights: Path) -> Selection:
        """The cases of the split that the class table names; `rows` are its examples."""
        table = class_table_of(config, weights)
        examples = examples_to_score(model, store, table, config.split)
        cases = list({example.case.id: example.case for example in examples}.values())
        return Selection(cases=cases, inputs={"classes": files.file_sha256(table)}, rows=examples)

    def score(
        self, model: Classifier, store: Store, chosen: Selection, config: EvaluateConfig, *, out: Path, device: str
    ) -> dict[str, Any]:
        """Score each row of the split; metrics.csv has one row for each."""
        examples = chosen.rows
        refused: dict[str, str] = {}
        probabilities = score_examples(model, store, examples, device, refused)
        examples = [example for example in examples if example.case.id not in refused]
        reference = np.array([model.classes.index(example.name) for example in examples])
        cases = [example.case.id for example in examples]
        write_scores(out, model, examples, probabilities)
        result = summarise_classes(
            cases, reference, probabilities, model.classes, seed=config.seed, patients=store.patients
        )
        return {**result, **named_refusals(refused)}

    def say(self, model: Classifier, result: dict[str, Any], config: EvaluateConfig, out: Path) -> None:
        """Scores over all rows, then of each class."""
        say_scores(result, config, out, model)

    def select_scans(self, model: Classifier, found: dict[str, Source], config: PredictConfig) -> Selection:
        """All scans, or those in the table of points; `rows` are its rows by scan."""
        if model.pointed and config.points is None:
            raise UserError(
                "--points: a CSV with the columns case, x_mm, y_mm, z_mm is needed; the model classifies points"
            )
        if not model.pointed and config.points is not None:
            raise UserError("--points: the model classifies whole scans")
        named = {name.removesuffix(".gz").removesuffix(".nii"): source for name, source in found.items()}
        if config.points is None:
            return Selection(sources=named)
        points = points_by_scan(config.points, named)
        chosen = {name: source for name, source in named.items() if name in points}
        return Selection(sources=chosen, inputs={"points": files.file_sha256(config.points)}, rows=points)

    def predict(
        self, model: Classifier, chosen: Selection, config: PredictConfig, *, device: str, refused: dict[str, str]
    ) -> dict[str, Any]:
        """Write OUT/scores.csv, one row per scan or point."""
        text, rows = predict_scores(model, chosen.sources, chosen.rows, device, refused, config.unoriented)
        if rows:
            files.write_text(config.out / SCORES, text)
        return {"written": [SCORES] if rows else [], "rows": rows, "classes": list(model.classes)}

    def predicts(self, names: list[str]) -> list[str]:
        """One table."""
        return [SCORES] if names else []

    def say_predicted(self, made: dict[str, Any], out: Path) -> tuple[str, str]:
        """The number of rows."""
        return f"{made['rows']} rows of class scores written to {out / SCORES}", ""
