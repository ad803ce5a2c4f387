"""From a store to an encoder, and how it is probed while it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alice3d import console, distributed, outputs
from alice3d.config import nearest
from alice3d.data.sampling.base import Masks
from alice3d.data.store import Case, Store
from alice3d.data.tables.landmarks import Landmarks, landmarks_of
from alice3d.device import resolve_device
from alice3d.errors import UserError
from alice3d.evaluation.features import ProbeScan, Reading, probe_scan
from alice3d.evaluation.probe import alike_of, find_landmarks, frozen_scans, knn_accuracy
from alice3d.nn.backbones.base import Backbone
from alice3d.pretraining.job import Around, Job, no_page, prepare_training, train
from alice3d.pretraining.monitors import Probe
from alice3d.pretraining.settings import PretrainConfig
from alice3d.tasks.segmentation.samples import class_values
from alice3d.weights.files import save_weights


def build_probe(config: PretrainConfig, job: Job) -> Probe:
    """What scores the encoder while it learns, on cases that are read once.

    Raises:
        UserError: the split has too few cases with labels or landmarks.
    """

    store = job.samples.store
    if config.probe_split not in store.splits:
        raise UserError(
            f"--probe-split: the store has no {config.probe_split!r}; {nearest(config.probe_split, store.splits)}"
        )
    there = {case.id: case for case in store.cases(config.probe_split)}
    marks = landmarks_of(config.landmarks, store, there) if config.landmarks is not None else None
    marked = set(marks.points_mm) if marks is not None else set()
    useful = [case for case in there.values() if case.id in marked or (case.labelled and case.structures)]
    chosen = sorted(useful, key=lambda case: (case.id not in marked, case.id))[: config.probe_cases]
    if len(chosen) < 2:
        raise UserError(
            f"--probe-every: {len(chosen)} cases of split {config.probe_split!r} have labels or landmarks, 2 are needed"
        )
    device = resolve_device(config.device, config.threads)
    reading = Reading(job.samples.rule, job.spacing_mm, config.crop, device)
    inputs = monitor_inputs(store, chosen, reading, marks)

    def probe(step: int) -> dict[str, float]:
        encoder = job.method.encoder()
        there = next(encoder.parameters()).device  # under torchrun the loop chose it
        return probe_monitor(encoder, replace(inputs, reading=replace(reading, device=there)))

    return probe


@dataclass(frozen=True)
class MonitorInputs:
    """Scans that are probed again and again while an encoder learns, read once.

    Attributes:
        scans: with landmarks, labelled voxels or both.
        reading: how the encoder reads them.
    """

    scans: tuple[ProbeScan, ...]
    reading: Reading


def monitor_inputs(
    store: Store, cases: Sequence[Case], reading: Reading, landmarks: Landmarks | None = None, *, voxels: int = 30
) -> MonitorInputs:
    """Read a few cases for `probe_monitor`; three or four are enough, and take about a second a look at 4 mm.

    Args:
        cases: with labels or landmarks; others are of no use here.
        landmarks: of some of them.
        voxels: drawn of each structure of each labelled case.
    """
    points = landmarks.points_mm if landmarks is not None else {}
    values = class_values(list(cases))
    scans = [
        probe_scan(
            store,
            case,
            rule=reading.rule,
            spacing_mm=reading.spacing_mm,
            points_mm=points.get(case.id),
            values=values,
            voxels=voxels if case.labelled else 0,
        )
        for case in cases
    ]
    return MonitorInputs(tuple(scans), reading)


def probe_monitor(backbone: Backbone, inputs: MonitorInputs) -> dict[str, float]:
    """A quick look at an encoder in training, for its log: `probe_knn_accuracy` and `probe_landmark_mm`, as known.

    Neighbours are looked for in the other scans. Nothing is left behind: no random number is drawn, no gradient kept,
    and every module's training mode is put back.
    """
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        scans = frozen_scans(backbone, inputs.scans, inputs.reading)
    finally:
        for module, mode in modes:
            module.training = mode
    alike = alike_of(backbone, scans)
    result: dict[str, float] = {}
    accuracy = knn_accuracy(scans, scans, alike)
    if accuracy:
        result["probe_knn_accuracy"] = float(np.mean([np.mean(list(of.values())) for of in accuracy.values()]))
    found = find_landmarks(scans, alike)
    if found is not None:
        result["probe_landmark_mm"] = float(found.error_mm.mean())
    return result


def pretrain(config: PretrainConfig, *, around: Around = no_page) -> dict[str, Any]:
    """Train, then write encoder.safetensors and its card; goes on where an earlier call stopped.

    Args:
        config: of `alice pretrain`.
        around: entered with the output folder while training runs, such as what draws its curves in the end.

    Returns:
        the keys of `--json`.

    Raises:
        UserError: an input or an option is wrong.
        WorkFailed: the run collapsed, or the loss is not finite.
    """
    partner = config.partner
    if partner == "auto":
        partner = "matched" if config.pairs is not None else "same"
    with outputs.claimed(config, "encoder", chief=distributed.is_chief()) as output:
        config = output.config
        job = prepare_training(
            config,
            config.method,
            config.options,
            partner=partner,
            masks=Masks(config.mask_ratio, config.mask_block, config.mask_regions),
        )
        results = ("encoder.safetensors", "encoder.json")
        state = output.check(job.settings, former=job.former, results=results)
        out = outputs.shown(output.out)
        if state == "done":
            console.say(f"{out}: already done")
            return output.earlier_result
        probe = build_probe(config, job) if config.probe_every else None
        with around(config.out):
            result, card = train(job, state, probe=probe, probe_every=config.probe_every)
        save_weights(config.out, "encoder", job.method.encoder().state_dict(), card)
        done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(out)}
        output.finish(done, results=results)
    curves = ", its curves to curves.html" if (output.out / "curves.html").exists() else ""
    pace = str(result.speed).replace("samples", "pairs")
    console.say(
        f"Encoder written to {out}{curves} ({pace}). "
        f"Next: alice finetune {config.store} MODEL --encoder {out} --labels 5"
    )
    return done
