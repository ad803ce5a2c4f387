"""Segmentation as a task of `alice finetune`, `evaluate` and `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from alice3d import outputs
from alice3d.data.sources.sources import Source
from alice3d.data.store import Store
from alice3d.engine.fit import FitResult
from alice3d.errors import UserError
from alice3d.metrics.segmentation import summarise
from alice3d.tasks.base import Selection, Task
from alice3d.tasks.cases import labelled_cases, named_refusals, scored_of
from alice3d.tasks.segmentation.evaluate import (
    SegmentationCheck,
    nsd_tolerance,
    same_names,
    say_scores,
    score_cases,
    write_scores,
)
from alice3d.tasks.segmentation.job import FinetuneJob, finetune, prepare_finetuning
from alice3d.tasks.segmentation.model import SegmentationModel, load_model
from alice3d.tasks.segmentation.predict import predict_label_maps
from alice3d.tasks.settings import EvaluateConfig, FinetuneSettings, PredictConfig


class Segmentation(Task):
    """A label for every voxel, trained on the label maps of a store."""

    uses = (frozenset(FinetuneSettings.model_fields) | {"tolerance", "points"}) - {"pool", "field", "shift"}
    """`classes` and `points` among them: they are refused below, with a reason."""
    done = "segmented"

    def prepare(self, config: FinetuneSettings, options: Any) -> FinetuneJob:
        """See `prepare_finetuning`."""
        if config.classes is not None:
            raise UserError("--classes is for --task classification; a segmenter is trained on the store's labels")
        return prepare_finetuning(config)

    def train(
        self, job: FinetuneJob, state: outputs.State, *, watch: bool
    ) -> tuple[FitResult, nn.Module, dict[str, Any]]:
        """See `finetune`."""
        return finetune(job, state, SegmentationCheck(job) if watch else None)

    def load(self, weights: Path) -> SegmentationModel:
        """See `load_model`."""
        return load_model(weights)

    def select_cases(self, model: SegmentationModel, store: Store, config: EvaluateConfig, weights: Path) -> Selection:
        """The labelled cases of the split; `rows` are the names of the store's label values."""
        if config.classes is not None:
            raise UserError("--classes: the model segments; it is scored on the store's labels")
        cases = labelled_cases(store, config.split)
        return Selection(cases=cases, rows=same_names(model, store))

    def score(
        self,
        model: SegmentationModel,
        store: Store,
        chosen: Selection,
        config: EvaluateConfig,
        *,
        out: Path,
        device: str,
    ) -> dict[str, Any]:
        """Predict each labelled case and score it on the store's grid, against the stored reference.

        A score is the mean over the structures in a case's reference, then over the cases of a patient, then over
        patients. A structure that the
        reference lacks has no Dice: it is counted (`absent`), and where it is predicted all the same as
        `false_positive`, with its volume; one that is present but not predicted scores Dice 0, NSD 0
        and, for HD95, the diagonal of the stored scan (`missed`).
        """
        cases, names = chosen.cases, chosen.rows
        tolerance_mm = nsd_tolerance(config.tolerance, cases)
        refused: dict[str, str] = {}
        scores = score_cases(model, store, cases, names, tolerance_mm, device, refused)
        cases = scored_of(cases, refused)
        shown = sorted({value for case in cases for value in case.structures})
        write_scores(out, scores)
        result = summarise(scores, len(cases), [names[value] for value in shown], store.patients)
        return {**result, "nsd_tolerance_mm": tolerance_mm, **named_refusals(refused)}

    def say(self, model: SegmentationModel, result: dict[str, Any], config: EvaluateConfig, out: Path) -> None:
        """Each structure's scores, then their mean over cases."""
        say_scores(result, config, out)

    def select_scans(self, model: SegmentationModel, found: dict[str, Source], config: PredictConfig) -> Selection:
        """All scans."""
        if config.points is not None:
            raise UserError("--points: the model segments whole scans")
        return Selection(sources=found)

    def predict(
        self,
        model: SegmentationModel,
        chosen: Selection,
        config: PredictConfig,
        *,
        device: str,
        refused: dict[str, str],
    ) -> dict[str, Any]:
        """Write OUT/name.nii.gz for each scan, with its shape and affine."""
        written = predict_label_maps(model, chosen.sources, config.out, device, refused, config.unoriented)
        return {"written": written, "labels": {str(value): name for value, name in model.names.items()}}

    def predicts(self, names: list[str]) -> list[str]:
        """A label map for each."""
        return names

    def say_predicted(self, made: dict[str, Any], out: Path) -> tuple[str, str]:
        """The number of label maps."""
        return f"{len(made['written'])} label maps written to {out}", ". Next: open them over their scans in a viewer"
