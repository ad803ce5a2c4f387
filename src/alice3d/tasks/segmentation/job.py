"""From labelled cases to a segmenter: the pipeline of `alice finetune`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from alice3d import console, outputs
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Case, Store
from alice3d.data.store.pins import pin
from alice3d.device import resolve_device
from alice3d.engine.checkpoint import has_checkpoint
from alice3d.engine.fit import FitResult, fit
from alice3d.errors import UserError
from alice3d.nn.heads.segmentation import JointSegmentationNet, LinearSegmentationNet, SegmentationNet, build_segmenter
from alice3d.tasks.adaptation import BACKBONE_SETTINGS
from alice3d.tasks.base import Validate, already_claimed, claim, plain, watched
from alice3d.tasks.cases import draw_cases, labelled_cases, pinned_training_cases, refuse_healthy
from alice3d.tasks.initialisation import crop_side, report_seen, starting_backbone
from alice3d.tasks.segmentation.components import connected_structures
from alice3d.tasks.segmentation.linear import LinearFit
from alice3d.tasks.segmentation.objective import SegmentationTask, start_from_frequencies
from alice3d.tasks.segmentation.samples import CropSettings, SegmentationSamples, class_values
from alice3d.tasks.settings import FinetuneSettings
from alice3d.weights import provenance
from alice3d.weights.provenance import source_commit


@dataclass(frozen=True)
class FinetuneJob:
    """Everything that fine-tuning needs, checked; nothing is written yet.

    Attributes:
        config: as given.
        net: backbone and newly initialised head.
        store, cases: training data.
        values: label value of each class.
        rule, spacing_mm: intensity rule and spacing of the scans.
        crop: voxels per side.
        settings: all that the result depends on, inputs by checksum.
        card: of the model, before training adds its results.
        former: see `outputs.check`.
    """

    config: FinetuneSettings
    net: nn.Module
    store: Store
    cases: list[Case]
    values: tuple[int, ...]
    rule: IntensityRule
    spacing_mm: tuple[float, float, float]
    crop: int
    settings: dict[str, Any]
    card: dict[str, Any]
    former: dict[str, tuple[Any, Any]]


def prepare_finetuning(config: FinetuneSettings) -> FinetuneJob:
    """Open store and encoder, sample the cases, build the network.

    Raises:
        UserError: the store, split, number of labels, encoder or an option is wrong.
    """
    if config.scale_low > config.scale_high:
        raise UserError(f"--scale-low {config.scale_low:g} is above --scale-high {config.scale_high:g}")
    store = Store.open(config.store)
    cases = pinned_training_cases(store, config) or draw_cases(
        labelled_cases(store, config.split), config.labels, config.seed
    )
    refuse_healthy(cases, "training cases")
    values = class_values(cases)
    lacking = [name for value, name in store.label_names.items() if value not in values]
    if lacking:
        console.warn(f"no training case has {', '.join(lacking)}: the model will not predict it")
    torch.manual_seed(config.seed)  # initial weights
    backbone, rule, spacing_mm, described = starting_backbone(config, store)
    crop = crop_side(config, backbone, described["encoder"])
    if config.head != "linear" and crop == backbone.stride and config.batch == 1:
        raise UserError(
            "--batch: batch normalisation needs more than one crop of a single token; use 2 or a larger --crop"
        )
    net = build_segmenter(backbone, len(values), config.head)
    card = {
        "task": config.task,
        "head": config.head,
        "labels": {str(value): store.label_names[value] for value in values[1:]},
        "single_piece": connected_structures(store, cases, values),
        "spacing_mm": list(spacing_mm),
        "intensity": rule.model_dump(mode="json"),
        "crop": crop,
        **described,
        "split": config.split,
        "seed": config.seed,
        "cases": provenance.described(cases),
        "licence": config.licence,
        "source_commit": source_commit(),
    }
    encoder = described["encoder"]
    report_seen(encoder, cases)
    provenance.report_held_out(store, cases)
    checksum = store.checksum_of(cases)
    settings = config.settings(store=checksum, encoder=encoder["sha256"] if encoder else None)
    former = {"store": (store.checksum, checksum)}
    return FinetuneJob(config, net, store, cases, values, rule, spacing_mm, crop, settings, card, former)


def finetune(
    job: FinetuneJob, state: outputs.State, validate: Validate | None = None
) -> tuple[FitResult, nn.Module, dict[str, Any]]:
    """Claim the output folder, then train the head and, except for `linear`, the backbone.

    Args:
        job: what `prepare_finetuning` made.
        state: of the folder, from `outputs.check`.
        validate: scores of a network, computed every `validate_every` steps and after the last; they go into the log.

    Returns:
        result of the run, the trained network, and its card.
    """
    config = job.config
    device = resolve_device(config.device, config.threads)
    claim(job.config, job.settings, state, pin(job.store, job.cases))
    if isinstance(job.net, LinearSegmentationNet):
        result = _solve_linear(job, job.net, device)
        net: nn.Module = job.net
    else:
        assert isinstance(job.net, SegmentationNet)
        samples = _samples(job)
        if not isinstance(job.net, JointSegmentationNet):
            start_from_frequencies(job.net, samples)
        elif not has_checkpoint(config.out / "checkpoints"):  # a resumed run has weights beyond the fitted head
            probe = LinearSegmentationNet(job.net.backbone, job.net.classes)
            _solve_linear(job, probe, device)
            job.net.linear.load_state_dict(probe.linear.state_dict())
        task = SegmentationTask(job.net, config, total_steps=config.steps, pretrained=config.encoder is not None)
        result = fit(task, samples, config, device=device, claim=already_claimed, watch=watched(task, config, validate))
        net = task.trained()
    options = {} if config.head == "linear" else plain(config, ("steps", "batch", "learning_rate", "ema_decay"))
    options |= plain(config, ("structure_weight",))
    if config.head != "unet":
        options |= plain(config, ("ridge", "linear_voxels", "linear_views", "linear_rounds", "linear_iterations"))
    if config.head != "linear" and config.encoder is not None:
        options |= plain(config, BACKBONE_SETTINGS)
    return result, net.eval(), {**job.card, "training": options, "steps": result.steps, "loss": result.loss}


def _samples(job: FinetuneJob) -> SegmentationSamples:
    config = job.config
    settings = CropSettings(
        crop=job.crop,
        spacing_mm=job.spacing_mm,
        rotation_deg=config.rotation,
        scale=(config.scale_low, config.scale_high),
        strength=config.strength,
        anywhere=config.anywhere,
        mirror=config.mirror,
    )
    return SegmentationSamples(
        store=job.store, cases=job.cases, values=job.values, rule=job.rule, settings=settings, seed=config.seed
    )


def _solve_linear(job: FinetuneJob, net: LinearSegmentationNet, device: torch.device) -> FitResult:
    config = job.config
    if config.encoder is None:
        console.warn("a linear head on an untrained backbone: give --encoder for a pre-trained one")
    begun = time.monotonic()
    fitted = LinearFit(
        net=net.eval(),
        store=job.store,
        cases=job.cases,
        values=job.values,
        rule=job.rule,
        spacing_mm=job.spacing_mm,
        crop=job.crop,
        settings=config,
        structure_weight=config.structure_weight,
        device=device,
        seed=config.seed,
    )
    with console.progress("Linear head", config.linear_rounds * len(job.cases)) as bar:
        loss = fitted.solve(bar)
    steps = 2 * config.linear_rounds * config.linear_iterations
    return FitResult(steps, loss, round(time.monotonic() - begun, 1))
