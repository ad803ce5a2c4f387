"""Scores of a segmenter on the labelled cases of a store."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from alice3d import console, files
from alice3d.data.sources.scan_list import refuse
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import read_case
from alice3d.errors import UserError
from alice3d.io.volume import ScanError
from alice3d.memory import within_memory
from alice3d.metrics.intervals import in_words
from alice3d.metrics.segmentation import StructureScore, dice_score, score_absent, score_case, with_reference
from alice3d.nn.tiling import reading_window
from alice3d.tasks.cases import draw_cases, labelled_cases, patients_of, refuse_healthy
from alice3d.tasks.segmentation.job import FinetuneJob
from alice3d.tasks.segmentation.model import SegmentationModel
from alice3d.tasks.settings import EvaluateConfig

TOLERANCE_MM = 2.0
"""Least tolerance of NSD that is chosen."""
ORDER_SEED = 0
"""Seed of the subset of cases: runs with other seeds are scored on the same ones."""


class SegmentationCheck:
    """Mean Dice over the structures of each case, then over `validate_cases` cases of `validate_split`.

    Args:
        job: from `prepare_finetuning`.

    Raises:
        UserError: the split does not exist or has no labels.
    """

    def __init__(self, job: FinetuneJob) -> None:
        config = job.config
        cases = labelled_cases(job.store, config.validate_split)
        refuse_healthy(cases, f"cases of split {config.validate_split!r}")
        cases = [case for case in cases if case.structures]  # Dice is of structures that are there
        self.job = job
        count = min(config.validate_cases, len(patients_of(cases)))
        self.cases = draw_cases(cases, count, ORDER_SEED)[: config.validate_cases]
        self.read = [read_case(job.store, case, job.rule, job.spacing_mm) for case in self.cases]

    def __call__(self, net: nn.Module) -> dict[str, float]:
        """`val_dice` of a network in evaluation mode; network and random state do not change."""
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
            predicted = with_reference(reference, predicted)
            means.append(np.mean([dice_score(reference == value, predicted == value) for value in case.structures]))
        return {"val_dice": float(np.mean(means))}


def same_names(model: SegmentationModel, store: Store) -> dict[int, str]:
    """Names of the store's label values; a value with another name in the model is refused."""
    names = store.label_names
    for value, name in model.names.items():
        declared = store.spec.label_names.get(value)
        if declared is not None and declared != name and not name.startswith("label_"):
            raise UserError(f"label {value} is {declared!r} in the store and {name!r} in the model; they do not match")
    unknown = [name for value, name in names.items() if value not in model.names]
    if unknown:
        console.warn(f"the model has no class {', '.join(unknown)}; where present, it counts as missed")
    return {**model.names, **names}


def nsd_tolerance(given_mm: float | None, cases: Iterable[Case]) -> float:
    """The tolerance of NSD in mm: as given, or `TOLERANCE_MM`, or the longest voxel side of the cases if that is more.

    A surface between voxel centres is known to half a voxel at best: spheres of radius 15 mm, 1, 3 and 6 mm apart,
    have 1.00, 0.82 and 0.41 at 2 mm on voxels of 1 mm, and 0.94, 0.86 and 0.51 on voxels of 4 mm.
    """
    longest = max((side for case in cases for side in case.spacing_mm), default=0.0)
    if given_mm is None:
        return float(max(TOLERANCE_MM, longest))
    if given_mm < longest * (1 - 1e-3):
        console.warn(
            f"--tolerance {given_mm:g}: voxels are up to {longest:g} mm long; below that NSD hardly tells good from bad"
        )
    return float(given_mm)


def score_cases(
    model: SegmentationModel,
    store: Store,
    cases: list[Case],
    names: dict[int, str],
    tolerance_mm: float,
    device: str,
    refused: dict[str, str],
) -> list[StructureScore]:
    """Predict each case and score it against its stored reference; NSD at a tolerance in mm.

    Structures that a reference lacks are among the scores, without Dice, where they are predicted or the case is
    healthy. A case for which memory does not suffice goes into `refused`, with the reason.
    """
    scores: list[StructureScore] = []
    with console.progress("Evaluating", len(cases)) as bar:
        for case in cases:
            try:
                with within_memory(partial(ScanError, case.id)):
                    image, grid = read_case(store, case, model.rule, model.spacing_mm)
                    predicted = model.label_map(image, grid, case.grid, device=device)
                    reference = store.label(case.id)[:, :, :]
                    found = score_case(case.id, reference, predicted, case.spacing_mm, names, tolerance_mm=tolerance_mm)
                    found += score_absent(case.id, reference, predicted, case.spacing_mm, names)
                scores += found
            except ScanError as error:
                refuse(case.id, error.reason, refused)
            bar.advance(note=case.id)
    return scores


def write_scores(out: Path, scores: list[StructureScore]) -> None:
    """metrics.csv, one row per case and structure; a score that does not exist is empty."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(StructureScore)], lineterminator="\n")
    table.writeheader()
    for score in scores:
        row = asdict(score)
        table.writerow({key: _cell(value) for key, value in row.items()})
    files.write_text(out / "metrics.csv", text.getvalue())


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if np.isnan(value) else f"{value:.6g}"


def say_scores(result: dict[str, Any], config: EvaluateConfig, out: Path) -> None:
    tolerance_mm = result["nsd_tolerance_mm"]
    mean = "mean over cases" if result["patients"] == result["cases"] else "mean over patients"
    width = max(len(name) for name in (*result["by_structure"], mean))
    console.say(f"{'':{width}}  {'Dice':24}{f'NSD at {tolerance_mm:g} mm':24}{'HD95 mm':24}false positives")
    for name, entry in (*result["by_structure"].items(), (mean, result)):
        dice, nsd, hd95 = (entry[metric] for metric in ("dice", "nsd", "hd95_mm"))
        false = f"{entry['false_positive']} of {entry['absent']}"
        if entry["false_positive"]:
            false += f", mean {entry['false_positive_ml']:.3g} ml"
        scores = f"{in_words(dice, 3):24}{in_words(nsd, 3):24}{in_words(hd95, 1):24}{false if entry['absent'] else '-'}"
        console.say(f"{name:{width}}  {scores}")
    healthy = f" ({result['healthy']} healthy)" if result["healthy"] else ""
    console.say(
        f"{result['cases']} cases{healthy}; {result['absent']} structures absent from a reference, of which "
        f"{result['false_positive']} were predicted (false positives: in no mean), {result['missed']} missed. "
        f"Scores written to {out}. Next: alice predict {config.model} SCANS PREDICTIONS"
    )
