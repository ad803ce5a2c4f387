"""The package's Python face: what `alice3d.NAME` leads to, each name loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

HOMES = {
    "alice3d.api.training": ("prepare", "train_matcher", "pair", "pretrain", "finetune", "evaluate"),
    "alice3d.api.models": ("load_model", "predict", "Model"),
    "alice3d.api.matching": ("embed", "match", "correspondence", "align", "propagate", "rigid_through"),
    "alice3d.api.listing": ("list_methods", "list_backbones", "list_tasks", "list_shipped"),
    "alice3d.weights.files": ("load_encoder", "load_matcher"),
    "alice3d.matching.matcher": ("Matcher",),
}
"""Module to the names that it gives."""
NAMES = {name: module for module, names in HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(import_module(NAMES[name]), name)
    raise AttributeError(f"module 'alice3d.api' has no attribute {name!r}")
