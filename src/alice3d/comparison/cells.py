"""The cells of a comparison: each one arm with one seed, in its own folder, computed once and then read."""

from __future__ import annotations

import json
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

from alice3d import console, files
from alice3d.comparison.arms import Arm
from alice3d.comparison.conditions import Conditions, fair_scratch, of_card, of_training
from alice3d.comparison.settings import CompareConfig
from alice3d.comparison.table import Unit
from alice3d.data.pairs import PairsTable
from alice3d.data.store import Case, Store
from alice3d.data.tables.landmarks import Landmarks, landmarks_of
from alice3d.device import resolve_device
from alice3d.errors import UserError
from alice3d.evaluation.features import read_encoder, untrained_encoder
from alice3d.evaluation.probe import Probed, probe_encoder
from alice3d.pretraining.pretrain import pretrain
from alice3d.pretraining.settings import PretrainConfig
from alice3d.report.run_page import drawn_at_the_end
from alice3d.tasks.cases import draw_cases, labelled_cases, unlearnt
from alice3d.tasks.settings import LinearSettings
from alice3d.weights.files import read_card_of


class Cells:
    """Trains, probes and fine-tunes what is not done yet.

    Args:
        config: settings of the comparison.
        arms: by name.

    Raises:
        UserError: the store, a split, landmarks or a number of labels is wrong.
    """

    def __init__(self, config: CompareConfig, arms: dict[str, Arm]) -> None:
        self.config, self.arms = config, arms
        self.store: Store = Store.open(config.store)

    def inputs(self) -> dict[str, Any]:
        """Checksums of what all cells read besides the store."""
        pairs = PairsTable.open(self.config.pairs).card.get("checksum") if self.config.pairs is not None else None
        init = files.file_sha256(read_card_of(self.config.init)[0]) if self.config.init is not None else None
        return {"pairs": pairs, "init": init}

    def labelled(self, field: str) -> list[Case]:
        """Labelled cases of the split that the setting `split` or `train_split` names.

        Raises:
            UserError: no such split, or no labels in it.
        """
        try:
            return labelled_cases(self.store, getattr(self.config, field))
        except UserError as error:
            text = str(error).removeprefix("split: ")
            raise UserError(f"--{field.replace('_', '-')}: {text}") from None

    @cached_property
    def conditions(self) -> dict[str, Conditions]:
        """Conditions of each arm; those of random weights follow from the other arms.

        Raises:
            UserError: the other arms differ, so that no random weights match them all.
        """
        warm = read_card_of(self.config.init)[1] if self.config.init is not None else None
        found: dict[str, Conditions] = {}
        for arm in self.arms.values():
            if arm.pretrain is not None:
                trained = self.pretrain_config(arm, 0)
                found[arm.name] = of_training(trained, partner_of(trained), self.store, warm)
            elif arm.encoder is not None:
                start = "warm start" if arm.encoder == self.config.init else "its own"
                found[arm.name] = of_card(read_card_of(arm.encoder)[1], start)
        given = PretrainConfig.checked({**self.config.pretrain, "store": "", "out": ""}, "pretrain")
        usual = of_training(given, partner_of(given), self.store, warm)
        if warm is not None and not found:
            usual = of_card(warm, "warm start")
        fair = {arm.name: fair_scratch(arm, found, usual, self.store) for arm in self.arms.values() if arm.random}
        return {name: {**found, **fair}[name] for name in self.arms}

    def drawn(self, labels: int, seed: int) -> list[Case]:
        """The labelled cases of a seed, sampled as in `alice finetune`."""
        return draw_cases(self.labelled("train_split"), labels, seed)

    def unlearnt(self, labels: int, seed: int) -> list[int]:
        """Label values that scored cases show and none of the drawn ones does: left out of every arm's score."""
        return unlearnt(self.drawn(labels, seed), self.labelled("split"))

    @cached_property
    def landmarks(self) -> Landmarks | None:
        """Landmarks of the scored split."""
        if self.config.landmarks is None:
            return None
        cases = {case.id for case in self.store.cases(self.config.split)}
        return landmarks_of(self.config.landmarks, self.store, cases)

    def folder(self, arm: Arm, seed: int) -> Path:
        """Folder of one cell."""
        return self.config.out / "cells" / arm.name / f"seed-{seed}"

    def encoder(self, arm: Arm, seed: int) -> str | None:
        """The arm's encoder; trained now if needed, its checkpoints are then removed. None: random weights."""
        if arm.pretrain is None:
            return arm.encoder
        made = self.pretrain_config(arm, seed)
        pretrain(made, around=drawn_at_the_end)
        shutil.rmtree(made.out / "checkpoints", ignore_errors=True)
        return str(made.out)

    def pretrain_config(self, arm: Arm, seed: int) -> PretrainConfig:
        """Settings of one cell's pre-training."""
        assert arm.pretrain is not None
        config = self.config
        given: dict[str, Any] = {"store": config.store}
        given |= {"out": self.folder(arm, seed) / "encoder", "pairs": config.pairs, "seed": seed}
        given |= {"init": config.init, "device": config.device, "threads": config.threads}
        return PretrainConfig.checked({**arm.pretrain, **given}, f"arm {arm.name}")

    def probe(self, arm: Arm, seed: int, measures: list[str]) -> list[Unit]:
        """Units of the quick measures of one cell, in files `MEASURE-LABELS.json`."""
        if not measures:
            return []
        encoder = self.encoder(arm, seed)
        if encoder is not None:
            known: Any = files.file_sha256(read_card_of(encoder)[0])
        else:
            known = {"random": self.conditions[arm.name].shown()}
        units: list[Unit] = []
        for labels in self.config.labels:
            wanted = [name for name in measures if name != "landmark" or labels == self.config.labels[0]]
            paths = {}
            for name in wanted:
                file = "landmark.json" if name == "landmark" else f"{name}-{labels}.json"
                paths[name] = self.folder(arm, seed) / file
            settings = {name: self._probe_settings(name, labels, seed, known) for name in wanted}
            missing = [name for name in wanted if _read(paths[name], settings[name]) is None]
            if missing:
                probed = self._measure(arm, encoder, seed, labels, missing)
                for name in missing:
                    content = {"settings": settings[name], "scores": _scores(probed, name)}
                    files.write_text(paths[name], json.dumps(content) + "\n")
            for name in wanted:
                of = None if name == "landmark" else labels
                title = {"linear": "linear_dice", "knn": "knn_accuracy", "landmark": "landmark_mm"}[name]
                scores = _read(paths[name], settings[name]) or []
                units += [Unit(arm.name, of, seed, title, case, key, value) for case, key, value in scores]
        return units

    def _probe_settings(self, name: str, labels: int, seed: int, encoder: Any) -> dict[str, Any]:
        config = self.config
        shared = {"encoder": encoder, "store": self.store.checksum, "split": config.split, "seed": seed}
        if name == "landmark":
            assert config.landmarks is not None
            return {**shared, "landmarks": files.file_sha256(config.landmarks)}
        shared |= {"labels": labels, "train_split": config.train_split}
        missing = self.unlearnt(labels, seed)
        shared |= {"unlearnt": missing} if missing else {}  # scores of an earlier version count them as missed
        return {**shared, **({"linear": config.linear} if name == "linear" else {"neighbours": config.neighbours})}

    def _measure(self, arm: Arm, encoder: str | None, seed: int, labels: int, measures: list[str]) -> Probed:
        config = self.config
        device = resolve_device(config.device, config.threads)
        if encoder is None:
            one = self.conditions[arm.name]
            backbone, reading = untrained_encoder(
                one.backbone, one.options, one.rule, one.spacing_mm, one.crop, device, seed
            )
        else:
            backbone, reading, _ = read_encoder(encoder, device)
        labelled = [name for name in measures if name != "landmark"]
        marked = [case for case in self.store.cases(config.split) if "landmark" in measures]
        return probe_encoder(
            backbone,
            reading,
            self.store,
            train=self.drawn(labels, seed) if labelled else [],
            cases=self.labelled("split") if labelled else [],
            marked=marked,
            landmarks=self.landmarks,
            measures=measures,
            settings=LinearSettings.checked(config.linear, "linear"),
            neighbours=config.neighbours,
            seed=seed,
        )


def partner_of(config: PretrainConfig) -> Any:
    """Where second crops come from, as `alice pretrain` resolves it."""
    if config.partner != "auto":
        return config.partner
    return "matched" if config.pairs is not None else "same"


def _scores(probed: Probed, name: str) -> list[tuple[str, str, float]]:
    """(case, key, value) of one measure."""
    if name != "landmark":
        return [(case, "", value) for case, value in probed.by_case(name).items()]
    found = probed.landmark
    if found is None:
        console.warn("no two scored cases share a landmark")
        return []
    keys = [f"{key}/{what}" for key, what in zip(found.key.tolist(), found.structure.tolist(), strict=True)]
    return list(zip(found.query.tolist(), keys, found.error_mm.tolist(), strict=True))


def _read(path: Path, settings: dict[str, Any]) -> list[list[Any]] | None:
    """Scores that were computed with the same settings; None where there are none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content["scores"] if content.get("settings") == json.loads(json.dumps(settings)) else None
