"""Results of Python calls: the output folder, the keys of `--json`, and loaders for the contents of the folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alice3d.api.models import Model, load_model
from alice3d.data.pairs import PairsTable
from alice3d.data.store import Store
from alice3d.matching.matcher import Matcher
from alice3d.nn.backbones.base import Backbone
from alice3d.weights.files import find_weights, load_encoder, read_card


@dataclass(frozen=True)
class Outcome:
    """An output folder; can be passed wherever a path is expected.

    Attributes:
        out: the folder.
        summary: the keys that `--json` prints.
    """

    out: Path
    summary: dict[str, Any]

    def __fspath__(self) -> str:
        return str(self.out)


class PreparedStore(Outcome):
    """Result of `prepare`; `summary["reasons"]` counts the reasons of refused scans."""

    @property
    def taken(self) -> int:
        """Number of accepted scans in the store."""
        return int(self.summary["taken"])

    @property
    def refused(self) -> int:
        """Number of refused scans; index.csv in the store gives the reasons."""
        return int(self.summary["refused"])

    def open(self) -> Store:
        """The store, for reading cases and arrays."""
        return Store.open(self.out)


class MadePairs(Outcome):
    """Result of `pair`."""

    @property
    def pairs(self) -> int:
        """Number of matched points, rows of the table."""
        return int(self.summary["pairs"])

    @property
    def accepted(self) -> int:
        """Number of accepted rows."""
        return int(self.summary["accepted"])

    def open(self) -> PairsTable:
        """The pairs table."""
        return PairsTable.open(self.out)


class Training(Outcome):
    """Result of a training."""

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return int(self.summary["steps"])

    @property
    def loss(self) -> float:
        """Loss at the end."""
        return float(self.summary["loss"])

    @property
    def seconds(self) -> float:
        """Training time in seconds."""
        return float(self.summary["seconds"])


class MatcherTraining(Training):
    """Result of `train_matcher`."""

    def matcher(self, *, device: str = "cpu") -> Matcher:
        """The trained matcher, for `match`, `embed` and the other matching calls."""
        return Matcher.load(self.out, device=device)


class Pretraining(Training):
    """Result of `pretrain`."""

    def encoder(self) -> Backbone:
        """The encoder, a `torch.nn.Module` on the CPU in evaluation mode."""
        return load_encoder(self.out)[0]

    @property
    def card(self) -> dict[str, Any]:
        """The JSON card of the encoder: architecture, settings, training scans."""
        return read_card(find_weights(self.out, "encoder"), "encoder")


class Finetuning(Training):
    """Result of `finetune`."""

    def model(self) -> Model:
        """The trained model, for `predict`."""
        return load_model(self.out)


class Evaluation(Outcome):
    """Result of `evaluate`; `metrics.csv` in the folder has at least one row per case."""

    @property
    def scores(self) -> dict[str, Any]:
        """Means with 95 % intervals, such as `scores["dice"]["mean"]`, overall and per structure or class."""
        return self.summary
