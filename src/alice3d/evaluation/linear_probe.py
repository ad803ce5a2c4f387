"""Dice of a linear head on a frozen encoder, without a model's files."""

from __future__ import annotations

from functools import partial

import torch

from alice3d import console
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import read_case
from alice3d.evaluation.features import Reading
from alice3d.io.volume import ScanError
from alice3d.memory import within_memory
from alice3d.metrics.segmentation import StructureScore, score_case
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.heads.segmentation import LinearSegmentationNet
from alice3d.nn.tiling import reading_window
from alice3d.tasks.segmentation.components import connected_structures
from alice3d.tasks.segmentation.linear import LinearFit
from alice3d.tasks.segmentation.model import SegmentationModel
from alice3d.tasks.segmentation.samples import class_values
from alice3d.tasks.settings import LinearSettings


def linear_scores(
    backbone: Backbone,
    reading: Reading,
    store: Store,
    train: list[Case],
    cases: list[Case],
    settings: LinearSettings,
    *,
    seed: int = 0,
) -> list[StructureScore]:
    """Dice of a linear head: the scores of `alice finetune --head linear` and `alice evaluate`, without their files.

    A structure that no case of `train` shows cannot be learnt and is left out.

    Args:
        train: labelled training cases of the head.
        cases: labelled cases that are scored, on the store's grid.
    """
    values = class_values(train)
    with torch.random.fork_rng(devices=[]):  # initial weights do not matter, and the random state is not changed
        net = LinearSegmentationNet(backbone, len(values)).eval()
    fitted = LinearFit(
        net=net,
        store=store,
        cases=train,
        values=values,
        rule=reading.rule,
        spacing_mm=reading.spacing_mm,
        crop=reading.crop,
        settings=settings,
        structure_weight=4.0,
        device=reading.device,
        seed=seed,
    )
    with console.progress("Linear head", settings.linear_rounds * len(train)) as bar:
        fitted.solve(bar)
    window, whole_voxels = reading_window(backbone, reading.crop)
    names = {value: store.label_names.get(value, f"label_{value}") for value in values[1:]}
    components = [values.index(value) for value in connected_structures(store, train, values)]
    model = SegmentationModel(
        net, {}, reading.rule, reading.spacing_mm, values, names, window, whole_voxels, tuple(components)
    )
    scores: list[StructureScore] = []
    with console.progress("Linear Dice", len(cases)) as bar:
        for case in cases:
            bar.advance(note=case.id)
            try:
                with within_memory(partial(ScanError, case.id)):
                    image, grid = read_case(store, case, reading.rule, reading.spacing_mm)
                    predicted = model.label_map(image, grid, case.grid, device=str(reading.device))
                    reference = store.label(case.id)[:, :, :]
                    of_case = score_case(
                        case.id, reference, predicted, case.spacing_mm, store.label_names, tolerance_mm=2.0
                    )
            except ScanError as error:
                console.warn(f"{case.id} is refused: {error.reason}")
                continue
            scores += [score for score in of_case if score.value in values]
    return scores
