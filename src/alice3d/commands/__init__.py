"""One file per command: its settings and run(); the work is done elsewhere."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alice3d.config import CommandConfig

COMMANDS = {
    "demo": "the whole pipeline at small scale, ending in a report to open",
    "prepare": "scans into a store: read, check, reorient, resample, crop",
    "inspect": "what a store holds, its outliers, every case on one page",
    "train-matcher": "learn to find the same anatomy in another scan",
    "match": "find a point of one scan in another",
    "view": "two scans side by side: a click in one finds the place in the other",
    "landmarks": "find landmarks in many scans from one example",
    "propagate": "carry the labels of a few scans onto others",
    "calibrate-matcher": "calibrate a matcher's error estimates on landmarks",
    "evaluate-matcher": "landmark errors of a matcher, in mm",
    "pair": "match points between patients into a table",
    "methods": "the objectives of pretrain: paper, samples, backbones, cost of a step",
    "pretrain": "learn an encoder without labels: Alice or a rival",
    "probe": "what an encoder's frozen features know: linear, nearest neighbours, landmarks",
    "compare": "pre-training objectives under equal conditions: table, paired tests, plot",
    "finetune": "learn a segmenter or a classifier from few labels",
    "predict": "segment scans, each in its own grid, or score their classes",
    "evaluate": "score a model on a split of a store",
    "completion": "a script with which the shell completes commands, options and their choices",
}
"""Command to what it gives, in the order of use."""


def find_command(name: str) -> tuple[ModuleType, type[CommandConfig]]:
    """The module of a command, and its settings.

    Args:
        name: one of `COMMANDS`.
    """
    module = importlib.import_module(f"alice3d.commands.{name.replace('-', '_')}")
    return module, getattr(module, "".join(part.capitalize() for part in name.split("-")) + "Config")
