"""How well a segmenter does on a few cases while it learns: the curve that shows how fast it gets there."""

from __future__ import annotations

import numpy as np
from torch import nn

from alice3d.data.volumes import read_case
from alice3d.engine.supervised import FinetuneJob
from alice3d.evaluation.segmentation import dice_score
from alice3d.inference import SegmentationModel
from alice3d.nn.seghead import reading_window
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
