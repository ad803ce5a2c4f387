"""How well a model does on a few cases while it learns: the curve that shows how fast it gets there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from alice3d.data.store.read_grid import read_case
from alice3d.engine.classification import ClassificationJob
from alice3d.engine.supervised import FinetuneJob
from alice3d.errors import UserError
from alice3d.evaluation.classification import METRICS, overall_scores
from alice3d.evaluation.segmentation import dice_score
from alice3d.inference import SegmentationModel
from alice3d.nn.heads.classification import ClassificationNet
from alice3d.nn.tiling import reading_window
from alice3d.tasks.classifier import Classifier
from alice3d.tasks.segmentation import draw_cases, labelled_cases

ORDER_SEED = 0
"""Of the draw of the cases: runs with other seeds are scored on the same ones."""


class SegmentationCheck:
    """Mean Dice over the structures of each case, then over `validate_cases` cases of `validate_split`.

    Args:
        job: what `prepare_finetuning` made.

    Raises:
        UserError: the split does not exist or holds no labels.
    """

    def __init__(self, job: FinetuneJob) -> None:
        config = job.config
        cases = labelled_cases(job.store, config.validate_split)
        self.job = job
        self.cases = draw_cases(cases, min(config.validate_cases, len(cases)), ORDER_SEED)
        self.read = [read_case(job.store, case, job.rule, job.spacing_mm) for case in self.cases]

    def __call__(self, net: nn.Module) -> dict[str, float]:
        """`val_dice` of a net in evaluation mode; nothing of the net or of the random state changes."""
        job = self.job
        window, whole_voxels = reading_window(net.backbone, job.crop)  # type: ignore[arg-type]
        model = SegmentationModel(
            net=net,
            card=job.card,
            rule=job.rule,
            spacing_mm=job.spacing_mm,
            values=job.values,
            names=job.store.label_names,
            window=window,
            whole_voxels=whole_voxels,
            single_piece=tuple(job.values.index(value) for value in job.card["single_piece"]),
        )
        device = str(next(net.parameters()).device)
        means = []
        for case, (image, grid) in zip(self.cases, self.read, strict=True):
            predicted = model.label_map(image, grid, case.grid, device=device)
            reference = job.store.label(case.id)[:, :, :]
            means.append(np.mean([dice_score(reference == value, predicted == value) for value in case.structures]))
        return {"val_dice": float(np.mean(means))}


class ClassificationCheck:
    """AUROC, accuracy, balanced accuracy and F1 on the rows of `validate_split`, all of them: they cost little.

    Args:
        job: what `prepare_classification` made.

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
        """`val_auroc` and the like of a net in evaluation mode; NaN is left out."""
        assert isinstance(net, ClassificationNet)
        model = replace(self.model, net=net)
        device = next(net.parameters()).device
        chances = [
            model.scores(self.store, example.case, example.centre_mm[None], device=device) for example in self.examples
        ]
        scores = overall_scores(self.reference, np.concatenate(chances), np.ones((1, len(self.examples))))
        found = {f"val_{metric}": float(scores[metric][0]) for metric in METRICS}
        return {name: value for name, value in found.items() if not np.isnan(value)}
