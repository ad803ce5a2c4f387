"""The measure `finetune` of a comparison: every arm fine-tuned with the same settings and crop size, then scored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from alice3d.comparison.arms import Arm
from alice3d.comparison.cells import Cells
from alice3d.comparison.conditions import windows_of
from alice3d.comparison.table import Unit, dice_by_case
from alice3d.errors import UserError
from alice3d.nn.backbones.registry import build_backbone
from alice3d.tasks.initialisation import crop_side
from alice3d.tasks.run import evaluate, finetune
from alice3d.tasks.settings import EvaluateConfig, FinetuneConfig

FIXED = (
    *("store", "out", "encoder", "labels", "seed", "split", "device", "threads", "overwrite"),
    *("task", "classes", "backbone", "backbone_options", "windows"),
)
"""Settings of `alice finetune` that the comparison sets: it fine-tunes segmenters."""


def check_finetune(cells: Cells) -> None:
    """Refuse wrong settings of fine-tuning and, where it is measured, arms that would be fine-tuned differently.

    Raises:
        UserError: a setting is wrong or set by the comparison; arms would have different crop sizes; a network from
            scratch cannot read scans as the other arms do.
    """
    config = cells.config
    for key in FIXED:
        if key in config.finetune:
            raise UserError(f"finetune: {key} is set by the comparison and its arms; leave it out")
    FinetuneConfig.checked({**config.finetune, "store": config.store, "out": config.out}, "finetune")
    if "finetune" not in config.measures:
        return
    arms = [arm for arm in cells.arms.values() if not config.finetune_arms or arm.name in config.finetune_arms]
    crops = {arm.name: _crop(cells, arm)[0] for arm in arms}
    if len(set(crops.values())) > 1:
        shown = ", ".join(f"{name} {crop}" for name, crop in crops.items())
        raise UserError(f"finetune: arms would have different crop sizes ({shown}); give --finetune.crop")
    stored_mm = cells.store.spec.spacing_mm
    for arm in arms:
        read_mm = cells.conditions[arm.name].spacing_mm
        if arm.random and any(abs(a - b) > 1e-3 * b for a, b in zip(read_mm, stored_mm, strict=True)):
            shown = " x ".join(f"{mm:g}" for mm in read_mm)
            raise UserError(
                f"arm {arm.name}: the other arms read scans at {shown} mm, a network from scratch at the store's "
                f"spacing; prepare a store at theirs"
            )


def finetune_config(cells: Cells, arm: Arm, encoder: str | None, labels: int, seed: int) -> FinetuneConfig:
    """Settings of one fine-tuning.

    Args:
        cells: of the comparison.
        arm: whose encoder it is.
        encoder: None for random weights.
        labels, seed: of the labelled subset.
    """
    config = cells.config
    out: Path = cells.folder(arm, seed) / f"model-{labels}"
    given: dict[str, Any] = {"store": config.store, "out": out, "encoder": encoder, "labels": labels, "seed": seed}
    given |= {"split": config.train_split, "device": config.device, "threads": config.threads}
    if encoder is None:
        one = cells.conditions[arm.name]
        given |= {"backbone": one.backbone, "backbone_options": one.options}
        if one.rule.modality == "ct":
            given["windows"] = windows_of(one.rule)
        wanted, unasked = _crop(cells, arm)
        if wanted != unasked:
            given["crop"] = wanted
    return FinetuneConfig.checked({**config.finetune, **given}, "finetune")


def _crop(cells: Cells, arm: Arm) -> tuple[int, int]:
    """Voxels per side of an arm's crops in fine-tuning: with pre-trained weights, and from scratch."""
    one, config = cells.conditions[arm.name], cells.config
    made = FinetuneConfig.checked({**config.finetune, "store": config.store, "out": config.out}, "finetune")
    with torch.random.fork_rng(devices=[]):
        backbone = build_backbone(one.backbone, one.rule.channels, one.options)
    try:
        return crop_side(made, backbone, {"crop": one.crop}), crop_side(made, backbone, None)
    except UserError as error:
        raise UserError(f"arm {arm.name}, finetune: {error}") from None


def finetuned(cells: Cells, arm: Arm, seed: int) -> list[Unit]:
    """Dice of each case after fine-tuning, for each number of labels."""
    config = cells.config
    encoder = cells.encoder(arm, seed)
    units: list[Unit] = []
    for labels in config.labels:
        made = finetune_config(cells, arm, encoder, labels, seed)
        finetune(made)
        shutil.rmtree(made.out / "checkpoints", ignore_errors=True)
        scored = made.out / f"evaluation-{config.split}"
        evaluate(
            EvaluateConfig(
                model=made.out,
                store=config.store,
                split=config.split,
                allow_seen=config.allow_seen,
                device=config.device,
                threads=config.threads,
            )
        )
        dice = dice_by_case(scored / "metrics.csv", cells.unlearnt(labels, seed))
        units += [Unit(arm.name, labels, seed, "dice", case, "", value) for case, value in dice.items()]
    return units
