"""From a class table to a classifier: the pipeline of `alice finetune --task classification`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from alice3d import console, files, outputs
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Case, Store
from alice3d.data.store.pins import pin
from alice3d.data.tables.classes import Example, examples_of, read_class_table
from alice3d.device import resolve_device
from alice3d.engine.checkpoint import has_checkpoint
from alice3d.engine.fit import FitResult, fit
from alice3d.errors import UserError
from alice3d.nn.heads.classification import ClassificationNet
from alice3d.tasks.adaptation import BACKBONE_SETTINGS
from alice3d.tasks.base import Validate, already_claimed, claim, plain, watched
from alice3d.tasks.cases import draw_examples, pinned_training_cases
from alice3d.tasks.classification.objective import ClassificationTask, frozen_features, solve_linear
from alice3d.tasks.classification.samples import Augmentation, ClassificationSamples, FieldOfView
from alice3d.tasks.initialisation import crop_side, report_seen, starting_backbone
from alice3d.tasks.settings import FinetuneSettings
from alice3d.weights import provenance
from alice3d.weights.provenance import source_commit

WHOLE_CROP = 48
"""Voxels per side to which a whole scan is resampled, unless `--crop` is given."""


@dataclass(frozen=True)
class ClassificationJob:
    """Everything that training a classifier needs, checked; nothing is written yet.

    Attributes:
        config: as given.
        net: backbone and newly initialised head.
        store: of the scans.
        cases, examples: for training.
        held: all examples of the table, of every split.
        classes: names, in the order of the scores.
        rule, field: intensity rule and field of view.
        settings: all that the result depends on, inputs by checksum.
        card: of the model, before training adds its results.
        former: see `outputs.check`.
    """

    config: FinetuneSettings
    net: ClassificationNet
    store: Store
    cases: list[Case]
    examples: list[Example]
    held: list[Example]
    classes: tuple[str, ...]
    rule: IntensityRule
    field: FieldOfView
    settings: dict[str, Any]
    card: dict[str, Any]
    former: dict[str, tuple[Any, Any]]


def prepare_classification(config: FinetuneSettings) -> ClassificationJob:
    """Open store, table and encoder, sample the cases, build the network.

    Raises:
        UserError: the store, table, split, number of labels, encoder or an option is wrong.
    """
    if config.classes is None:
        raise UserError("--classes: a CSV with the columns case and class is needed for --task classification")
    if config.scale_low > config.scale_high:
        raise UserError(f"--scale-low {config.scale_low:g} is above --scale-high {config.scale_high:g}")
    store = Store.open(config.store)
    rows = read_class_table(config.classes)
    held = examples_of(rows, store, config.classes)
    cases, examples, classes = draw_examples(held, store, config, pinned_training_cases(store, config))
    torch.manual_seed(config.seed)  # initial weights
    backbone, rule, spacing_mm, described = starting_backbone(config, store)
    pointed = examples[0].point_mm is not None
    encoder = described["encoder"]
    crop = crop_side(config, backbone, encoder, usual=None if pointed else WHOLE_CROP)
    field = field_of_view(config, cases, crop, spacing_mm, whole=not pointed)
    card = {
        "task": config.task,
        "head": config.head,
        "pool": config.pool,
        "classes": list(classes),
        "points": pointed,
        "spacing_mm": list(spacing_mm),
        "intensity": rule.model_dump(mode="json"),
        "crop": crop,
        "voxel_mm": list(field.voxel_mm),
        **described,
        "split": config.split,
        "seed": config.seed,
        "cases": provenance.described(cases),
        "licence": config.licence,
        "source_commit": source_commit(),
    }
    report_seen(encoder, cases)
    provenance.report_held_out(store, cases)
    checksum = store.checksum_of(cases)
    inputs = {"store": checksum, "encoder": encoder["sha256"] if encoder else None}
    former = {"store": (store.checksum, checksum)}
    settings = config.settings(**inputs, classes=files.file_sha256(config.classes))
    net = ClassificationNet(backbone, len(classes), config.pool)
    return ClassificationJob(config, net, store, cases, examples, held, classes, rule, field, settings, card, former)


def field_of_view(
    config: FinetuneSettings, cases: list[Case], crop: int, spacing_mm: tuple[float, float, float], *, whole: bool
) -> FieldOfView:
    """Field of view: `--field` mm on the longest side; left out, `crop` voxels at the model's spacing around points,
    and around whole scans the box that holds the largest training body, never finer than that spacing."""
    side_mm = crop * np.asarray(spacing_mm)
    zoom = 1.0
    if config.field:
        zoom = config.field / side_mm.max()
    elif whole:
        bodies = np.array([np.subtract(*case.body_box_mm[::-1]) for case in cases])
        zoom = max(1.0, float((bodies / side_mm).max()))
    x, y, z = (round(float(mm) * zoom, 4) for mm in spacing_mm)
    return FieldOfView(crop, (x, y, z))


def learn_classes(
    job: ClassificationJob, state: outputs.State, validate: Validate | None = None
) -> tuple[FitResult, ClassificationNet, dict[str, Any]]:
    """Claim the output folder, then fit the linear head on frozen features, train all weights, or both in this order.

    Args:
        job: what `prepare_classification` made.
        state: of the folder, from `outputs.check`.
        validate: scores of a network, computed every `validate_every` steps and after the last; they go into the log.

    Returns:
        result of the run, the trained network, and its card.
    """
    config = job.config
    device = resolve_device(config.device, config.threads)
    claim(config, job.settings, state, pin(job.store, job.cases))
    samples = ClassificationSamples(
        store=job.store,
        examples=job.examples,
        classes=job.classes,
        rule=job.rule,
        field=job.field,
        augmentation=Augmentation(
            config.rotation, (config.scale_low, config.scale_high), config.strength, config.shift, config.mirror
        ),
        seed=config.seed,
    )
    net = job.net
    options: dict[str, Any] = {}
    if config.head != "unet":
        options |= plain(config, ("ridge", "linear_views", "linear_iterations"))
        if not has_checkpoint(config.out / "checkpoints"):  # a resumed run has weights beyond the fitted head
            result = _solve(job, samples, device)
    if config.head != "linear":
        task = ClassificationTask(net, config, total_steps=config.steps, pretrained=config.encoder is not None)
        watch = watched(task, config, validate)
        result = fit(task, samples, config, device=device, claim=already_claimed, watch=watch)
        net = task.trained()
        options |= plain(config, ("steps", "batch", "learning_rate", "ema_decay"))
        options |= plain(config, BACKBONE_SETTINGS) if config.encoder is not None else {}
    options |= {"frozen": config.head == "linear", "examples": len(job.examples)}
    return result, net.eval(), {**job.card, "training": options, "steps": result.steps, "loss": result.loss}


def _solve(job: ClassificationJob, samples: ClassificationSamples, device: torch.device) -> FitResult:
    config = job.config
    if config.encoder is None:
        console.warn("a linear head on an untrained backbone: give --encoder for a pre-trained one")
    begun = time.monotonic()
    with console.progress("Frozen features", len(job.examples)) as bar:
        features, labels = frozen_features(job.net.eval(), samples, config.linear_views, device=device, bar=bar)
    weight, bias, loss = solve_linear(features, labels, len(job.classes), config)
    with torch.no_grad():
        job.net.linear.weight.copy_(weight)
        job.net.linear.bias.copy_(bias)
    return FitResult(4 * config.linear_iterations, loss, round(time.monotonic() - begun, 1))
