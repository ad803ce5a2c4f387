"""From labelled cases to a segmenter: the road of `alice finetune`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from torch import nn

from alice3d import console, outputs
from alice3d.config import Config
from alice3d.data import leakage
from alice3d.data.intensity import IntensityRule
from alice3d.data.store import Case, Store
from alice3d.engine.device import resolve_device
from alice3d.engine.finetune_settings import FinetuneSettings
from alice3d.engine.fit import FitResult, fit
from alice3d.engine.selfsupervised import intensity_rule, sha256_of, source_commit
from alice3d.errors import UserError
from alice3d.nn.backbone import Backbone, build_backbone
from alice3d.nn.seghead import POSITION_FREE, LinearSegmentationNet, SegmentationNet, build_segmenter
from alice3d.nn.weights import find_weights, load_encoder
from alice3d.tasks.crops import CropSettings, SegmentationSamples, class_values
from alice3d.tasks.linear import LinearFit
from alice3d.tasks.segmentation import (
    SegmentationTask,
    draw_cases,
    labelled_cases,
    single_pieces,
    start_from_frequencies,
)

DEFAULT_CROP = 32
KEPT_OF_ENCODER = ("method", "init", "partner", "steps", "batch", "loss", "seed", "crop", "licence", "source_commit")
"""What a model's card repeats of its encoder's."""


@dataclass(frozen=True)
class FinetuneJob:
    """Everything that fine-tuning needs, checked; nothing is written yet.

    Attributes:
        config: as given.
        net: backbone and fresh head.
        store, cases: what it learns from.
        values: label value of each class.
        rule, spacing_mm: how scans are read.
        crop: voxels a side.
        settings: what the result depends on, inputs by checksum.
        card: of the model, without what training itself adds.
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


def prepare_finetuning(config: FinetuneSettings) -> FinetuneJob:
    """Open store and encoder, draw the cases, build the net.

    Raises:
        UserError: the store, split, number of labels, encoder or an option is wrong.
    """
    if config.scale_low > config.scale_high:
        raise UserError(f"--scale-low {config.scale_low:g} is above --scale-high {config.scale_high:g}")
    store = Store.open(config.store)
    cases = draw_cases(labelled_cases(store, config.split), config.labels, config.seed)
    values = class_values(cases)
    lacking = [name for value, name in store.label_names.items() if value not in values]
    if lacking:
        console.warn(f"no chosen case shows {', '.join(lacking)}: the model will not know it")
    torch.manual_seed(config.seed)  # initial weights
    backbone, rule, spacing_mm, described = _backbone(config, store)
    crop = _crop(config, backbone, described["encoder"])
    if config.head == "unet" and crop == backbone.stride and config.batch == 1:
        raise UserError(
            "--batch: one crop of a single token leaves nothing to normalise over; take 2 or a larger --crop"
        )
    net = build_segmenter(backbone, len(values), config.head)
    card = {
        "task": config.task,
        "head": config.head,
        "labels": {str(value): store.label_names[value] for value in values[1:]},
        "single_piece": single_pieces(store, cases, values),
        "spacing_mm": list(spacing_mm),
        "intensity": rule.model_dump(mode="json"),
        "crop": crop,
        **described,
        "split": config.split,
        "seed": config.seed,
        "cases": leakage.described(cases),
        "licence": config.licence,
        "source_commit": source_commit(),
    }
    encoder = described["encoder"]
    known = leakage.leaked(encoder or {}, cases)
    if known:  # the usual road, and worth knowing when these scans are scored
        some = ", ".join(known[: leakage.SHOWN]) + (", ..." if len(known) > leakage.SHOWN else "")
        console.say(f"The encoder saw {len(known)} of these {len(cases)} scans before, without their labels ({some}).")
    settings = config.settings(store=store.checksum, encoder=encoder["sha256"] if encoder else None)
    return FinetuneJob(config, net, store, cases, values, rule, spacing_mm, crop, settings, card)


def _backbone(
    config: FinetuneSettings, store: Store
) -> tuple[Backbone, IntensityRule, tuple[float, float, float], dict[str, Any]]:
    """Backbone, intensity rule, spacing, and what the card says of them; from the encoder, or fresh."""
    stored_mm = store.spec.spacing_mm
    if config.encoder is None:
        rule = intensity_rule(store, config.windows)
        options = dict(config.backbone_options)
        backbone = build_backbone(config.backbone, rule.channels, options)
        named = {"name": config.backbone, "options": options, "in_channels": rule.channels}
        return backbone, rule, stored_mm, {"backbone": named, "encoder": None}
    path = find_weights(config.encoder, "encoder", "matcher")
    backbone, card = load_encoder(path)
    rule = IntensityRule(**card["intensity"])
    if rule.modality != store.spec.modality:
        console.warn(f"the encoder learnt from {rule.modality.upper()}, the store holds {store.spec.modality.upper()}")
        rule = intensity_rule(store, config.windows)
        if rule.channels != backbone.in_channels:
            raise UserError(
                f"--encoder: it takes {backbone.in_channels} channels, the store's {store.spec.modality.upper()} has "
                f"{rule.channels}; give an encoder of this modality"
            )
    x, y, z = (float(mm) for mm in card["spacing_mm"])
    if any(abs(a - b) > 1e-3 * b for a, b in zip((x, y, z), stored_mm, strict=True)):
        shown = [" x ".join(f"{mm:g}" for mm in spacing) for spacing in ((x, y, z), stored_mm)]
        console.say(f"Reading at the encoder's spacing of {shown[0]} mm; the store has {shown[1]} mm.")
    summary = {key: card[key] for key in (*KEPT_OF_ENCODER, "cases") if key in card}
    summary |= {"kind": card["kind"], "sha256": sha256_of(path)}
    return backbone, rule, (x, y, z), {"backbone": card["backbone"], "encoder": summary}


def _crop(config: FinetuneSettings, backbone: Backbone, encoder: dict[str, Any] | None) -> int:
    stride = backbone.stride
    if not config.crop:
        usual = DEFAULT_CROP
        if encoder is not None and not isinstance(backbone, POSITION_FREE):
            usual = int(encoder.get("crop", DEFAULT_CROP))
        return -(-usual // stride) * stride
    if config.crop % stride:
        raise UserError(f"--crop: {config.crop} voxels is no multiple of the backbone's stride {stride}")
    return config.crop


def finetune(job: FinetuneJob, state: outputs.State) -> tuple[FitResult, nn.Module, dict[str, Any]]:
    """Train the head and, with `unet`, the backbone; the output folder is claimed just before the first write.

    Args:
        job: what `prepare_finetuning` made.
        state: what `outputs.check` said of the folder.

    Returns:
        what is said of the run, the trained net, and its card.
    """
    config = job.config

    def claim() -> None:
        outputs.begin(config.out, "model", job.settings, state=state, overwrite=config.overwrite)
        outputs.write_text(config.out / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))

    device = resolve_device(config.device, config.threads)
    if isinstance(job.net, LinearSegmentationNet):
        result = _solve_linear(job, job.net, device, claim)
        net: nn.Module = job.net
    else:
        assert isinstance(job.net, SegmentationNet)
        samples = _samples(job)
        start_from_frequencies(job.net, samples)
        task = SegmentationTask(job.net, config, total_steps=config.steps, pretrained=config.encoder is not None)
        result = fit(task, samples, config, device=device, claim=claim)
        net = task.trained()
    options = _plain(config, ("steps", "batch", "learning_rate", "structure_weight", "average"))
    if config.head == "linear":
        options = _plain(
            config, ("ridge", "linear_voxels", "linear_views", "linear_rounds", "linear_iterations", "structure_weight")
        )
    elif config.encoder is not None:
        options |= _plain(config, ("backbone_rate", "head_first"))
    return result, net.eval(), {**job.card, "training": options, "steps": result.steps, "loss": result.loss}


def _plain(config: Config, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


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


def _solve_linear(job: FinetuneJob, net: LinearSegmentationNet, device: torch.device, claim: Any) -> FitResult:
    config = job.config
    if config.encoder is None:
        console.warn("a linear head on an untrained backbone: give --encoder for one that knows anatomy")
    claim()
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
