"""What a call in Python returns: the folder that it filled, what `--json` would print, and what lies in the folder."""

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
    """A filled folder; it can be given wherever a path is asked for.

    Attributes:
        out: the folder.
        summary: the keys that `--json` prints.
    """

    out: Path
    summary: dict[str, Any]

    def __fspath__(self) -> str:
        return str(self.out)


class PreparedStore(Outcome):
    """Of `prepare`; `reasons` in the summary counts why scans were refused."""

    @property
    def taken(self) -> int:
        """Scans in the store."""
        return int(self.summary["taken"])

    @property
    def refused(self) -> int:
        """Scans that were left out; index.csv in the store says why."""
        return int(self.summary["refused"])

    def open(self) -> Store:
        """The store."""
        return Store.open(self.out)


class MadePairs(Outcome):
    """Of `pair`."""

    @property
    def pairs(self) -> int:
        """Matched points, rows of the table."""
        return int(self.summary["pairs"])

    @property
    def accepted(self) -> int:
        """Of those, the ones that are believed."""
        return int(self.summary["accepted"])

    def open(self) -> PairsTable:
        """The table."""
        return PairsTable.open(self.out)


class Training(Outcome):
    """Of every training."""

    @property
    def steps(self) -> int:
        """Optimiser steps done."""
        return int(self.summary["steps"])

    @property
    def loss(self) -> float:
        """In the end."""
        return float(self.summary["loss"])

    @property
    def seconds(self) -> float:
        """Spent in training."""
        return float(self.summary["seconds"])


class MatcherTraining(Training):
    """Of `train_matcher`."""

    def matcher(self, *, device: str = "cpu") -> Matcher:
        """The matcher, for `match`, `embed` and so on."""
        return Matcher.load(self.out, device=device)


class Pretraining(Training):
    """Of `pretrain`."""

    def encoder(self) -> Backbone:
        """The encoder, a `torch.nn.Module` on the CPU in evaluation mode."""
        return load_encoder(self.out)[0]

    @property
    def card(self) -> dict[str, Any]:
        """What the encoder is and what it has seen."""
        return read_card(find_weights(self.out, "encoder"), "encoder")


class Finetuning(Training):
    """Of `finetune`."""

    def model(self) -> Model:
        """The model, for `predict`."""
        return load_model(self.out)


class Evaluation(Outcome):
    """Of `evaluate`; `metrics.csv` in the folder has a row for each case at least."""

    @property
    def scores(self) -> dict[str, Any]:
        """Means with intervals, such as `scores["dice"]["mean"]`, and those of each structure or class."""
        return self.summary
