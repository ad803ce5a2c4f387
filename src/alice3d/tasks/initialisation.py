"""Initialisation of fine-tuning for every task: the backbone, its intensity rule and spacing, and the size of crops."""

from __future__ import annotations

from typing import Any

from alice3d import console, distributed, files
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import intensity_rule
from alice3d.engine import parallel
from alice3d.errors import UserError
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.backbones.registry import build_backbone
from alice3d.tasks.settings import FinetuneSettings
from alice3d.weights import provenance
from alice3d.weights.card import crop_of
from alice3d.weights.files import find_weights, load_encoder

DEFAULT_CROP = 32
"""Of fine-tuning, where neither a setting nor the weights ask for another."""
KEPT_OF_ENCODER = ("method", "init", "partner", "steps", "batch", "loss", "seed", "crop", "licence", "source_commit")
"""Keys of the encoder's card that a model's card repeats."""


def starting_backbone(
    config: FinetuneSettings, store: Store
) -> tuple[Backbone, IntensityRule, tuple[float, float, float], dict[str, Any]]:
    """Backbone, intensity rule, spacing, and their card entries; from the encoder, or newly initialised.

    Raises:
        UserError: the encoder is missing, damaged, or of another modality; an option is wrong; the batch cannot be
            split equally.
    """
    if config.head != "linear":
        parallel.share_size(config.batch, config.accumulate, distributed.announced())
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
        console.warn(
            f"the encoder was trained on {rule.modality.upper()}, the store holds {store.spec.modality.upper()}"
        )
        rule = intensity_rule(store, config.windows)
        if rule.channels != backbone.in_channels:
            raise UserError(
                f"--encoder: it has {backbone.in_channels} channels, the store's {store.spec.modality.upper()} has "
                f"{rule.channels}; give an encoder of this modality"
            )
    x, y, z = (float(mm) for mm in card["spacing_mm"])
    if any(abs(a - b) > 1e-3 * b for a, b in zip((x, y, z), stored_mm, strict=True)):
        shown = [" x ".join(f"{mm:g}" for mm in spacing) for spacing in ((x, y, z), stored_mm)]
        console.say(f"Reading at the encoder's spacing of {shown[0]} mm; the store has {shown[1]} mm.")
    summary = {key: card[key] for key in (*KEPT_OF_ENCODER, "cases") if key in card}
    summary |= {"kind": card["kind"], "sha256": files.file_sha256(path)}
    return backbone, rule, (x, y, z), {"backbone": card["backbone"], "encoder": summary}


def crop_side(
    config: FinetuneSettings, backbone: Backbone, encoder: dict[str, Any] | None, usual: int | None = None
) -> int:
    """Voxels per side of the crops: as given, or the default of the task (`usual`) or else of the backbone.

    Raises:
        UserError: not a multiple of the backbone's stride.
    """
    stride = backbone.stride
    if not config.crop:
        if usual is None:
            usual = DEFAULT_CROP
        if encoder is not None and not backbone.position_free:
            usual = crop_of(encoder)
        return -(-usual // stride) * stride
    if config.crop % stride:
        raise UserError(f"--crop: {config.crop} voxels is not a multiple of the backbone's stride {stride}")
    return config.crop


def report_seen(encoder: dict[str, Any] | None, cases: list[Case]) -> None:
    """Report which of the cases the encoder was pre-trained on, which matters when they are scored."""
    known = provenance.leaked(encoder or {}, cases)
    if known:
        some = ", ".join(known[: provenance.SHOWN]) + (", ..." if len(known) > provenance.SHOWN else "")
        console.say(f"The encoder was pre-trained on {len(known)} of these {len(cases)} scans without labels ({some}).")
