"""Curves of runs that went well, shipped with the weights they gave, to compare one's own run with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from alice3d.report.curves import curve_names, is_point, running_mean

NAME = "curves.json"
POINTS = 60
ABOUT = ("steps", "batch", "learning_rate", "crop", "matched_share")
"""What a file of curves repeats of its run's settings."""


@dataclass(frozen=True)
class Expected:
    """Curves of a shipped run.

    Attributes:
        title: which run, for a caption.
        steps: of it.
        curves: key of the log to steps and running means.
    """

    title: str
    steps: int
    curves: Mapping[str, Sequence[tuple[float, float]]]

    def stretched(self, steps: int) -> dict[str, list[tuple[float, float]]]:
        """The curves over a run of another length: schedules, and so the losses, follow the share of the run."""
        return {
            name: [(step * steps / self.steps, value) for step, value in points] for name, points in self.curves.items()
        }


def thinned(log: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], title: str) -> dict[str, Any]:
    """The content of a file of curves.

    Args:
        log: of the run.
        settings: its `config.yaml`.
        title: which run, in a few words.
    """
    curves = {}
    for name in curve_names(log):
        steps, values = np.array(
            [(entry["step"], entry[name]) for entry in log if is_point(entry.get(name))], np.float64
        ).T
        smooth = running_mean(values, max(len(values) // 20, 1))
        chosen = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
        curves[name] = [[int(steps[i]), float(f"{smooth[i]:.4g}")] for i in chosen]
    about = {key: settings[key] for key in ABOUT if key in settings}
    return {"title": title, "kind": _kind(settings), "settings": about, "curves": curves}


def expected_of(settings: Mapping[str, Any]) -> Expected | None:
    """The shipped run that one with these settings is to be compared with; None where none is alike.

    Alike are runs of the same method on the same kind of network, both from weights or both from scratch.
    """
    for folder in (resources.files("alice3d.weights") / "shipped").iterdir():
        file = folder.joinpath(NAME)
        if not file.is_file():
            continue
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["kind"] == _kind(settings):
            curves = {name: [(x, y) for x, y in points] for name, points in content["curves"].items()}
            return Expected(content["title"], content["settings"]["steps"], curves)
    return None


def _kind(settings: Mapping[str, Any]) -> dict[str, Any]:
    method = settings.get("method", "sam")
    return {"method": method, "backbone": settings["backbone"], "from_weights": settings["init"] is not None}
