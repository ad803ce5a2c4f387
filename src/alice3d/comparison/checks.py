"""Checks before a comparison begins: everything that would stop a later cell or leak test data."""

from __future__ import annotations

from typing import Any

import torch

from alice3d.comparison.arms import Arm
from alice3d.comparison.cells import Cells, partner_of
from alice3d.comparison.finetuning import check_finetune
from alice3d.data.sampling.base import Masks
from alice3d.data.store import Case
from alice3d.errors import UserError
from alice3d.evaluation.landmarks import ordered_pairs
from alice3d.nn.backbones.registry import build_backbone
from alice3d.pretraining.job import prepare_training
from alice3d.tasks.cases import refuse_healthy
from alice3d.tasks.settings import LinearSettings
from alice3d.weights.files import load_encoder
from alice3d.weights.provenance import NOT_FOR_TESTING, described, guard, leaked, of_seen_patients

LEARNING = ("linear", "knn", "finetune")
"""Measures that need labelled training cases."""


def check(cells: Cells) -> None:
    """Refuse before the first cell anything that would stop a later one.

    Raises:
        UserError: a split, a number of labels, landmarks, an encoder or a setting is wrong; heads would be scored on
            their training cases; an encoder was pre-trained on scans of a test split.
    """
    config = cells.config
    LinearSettings.checked(config.linear, "linear")
    if config.split not in cells.store.splits:
        known = ", ".join(cells.store.splits) or "none"
        raise UserError(f"--split: the store has no split {config.split!r}; it has {known}")
    scored: list[Case] = []
    if set(LEARNING) & set(config.measures):
        scored = _scored(cells)
    if "landmark" in config.measures:
        scored = [*scored, *_marked(cells)]
    judged = list({case.id: case for case in scored}.values())
    for arm in cells.arms.values():
        _check_arm(cells, arm, judged)
    for arm in cells.arms.values():
        if arm.random:
            _check_random(cells, arm)
    check_finetune(cells)


def _scored(cells: Cells) -> list[Case]:
    """The labelled cases that are scored: none of them may be a training case of any seed."""
    config = cells.config
    scored = cells.labelled("split")
    refuse_healthy(scored, f"cases of split {config.split!r}")
    refuse_healthy(cells.labelled("train_split"), f"cases of split {config.train_split!r}")
    for labels in config.labels:
        for seed in config.seeds:
            drawn = {"cases": described(cells.drawn(labels, seed))}
            both = [*leaked(drawn, scored), *of_seen_patients(drawn, scored)]
            if both:
                raise UserError(
                    f"--split: {len(both)} of {len(scored)} scored cases of {config.split!r}, or their patients, also "
                    f"train heads ({labels} labels of {config.train_split!r}, seed {seed}: {both[0]}, ...); choose "
                    "another"
                )
    return scored


def _marked(cells: Cells) -> list[Case]:
    """The cases whose landmarks are searched for."""
    config = cells.config
    if config.landmarks is None:
        raise UserError("--measures: landmark needs --landmarks CSV")
    assert cells.landmarks is not None
    if not ordered_pairs(cells.landmarks):
        raise UserError(f"{config.landmarks}: no two cases of split {config.split!r} share a structure")
    return [case for case in cells.store.cases(config.split) if case.id in cells.landmarks.points_mm]


def _check_arm(cells: Cells, arm: Arm, judged: list[Case]) -> None:
    """Build the encoder of an arm, or read its weights, and check whether it was trained on the scored cases."""
    config = cells.config
    card: dict[str, Any] = {}
    if arm.pretrain is not None:
        trained = cells.pretrain_config(arm, 0)
        card = prepare_training(
            trained,
            trained.method,
            trained.options,
            partner=partner_of(trained),
            masks=Masks(trained.mask_ratio, trained.mask_block, trained.mask_regions),
        ).card
    elif arm.encoder is not None:
        try:
            card = load_encoder(arm.encoder)[1]
        except UserError as error:
            raise UserError(f"arm {arm.name}: {error}") from None
    strict = config.split not in NOT_FOR_TESTING
    what, among = f"{config.split} split (arm {arm.name})", cells.store.cases()
    guard(card, judged, what=what, strict=strict, force=config.allow_seen, among=among)


def _check_random(cells: Cells, arm: Arm) -> None:
    """Build the network of random weights; a scratch arm may define its own."""
    one = cells.conditions[arm.name]
    try:
        with torch.random.fork_rng(devices=[]):
            stride = build_backbone(one.backbone, one.rule.channels, one.options).stride
    except UserError as error:
        raise UserError(f"arm {arm.name}: {error}") from None
    if one.crop % stride:
        raise UserError(f"arm {arm.name}: crop {one.crop} is no multiple of the backbone's stride {stride}")
