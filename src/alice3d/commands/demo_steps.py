"""The steps of the demo once its scans are in a store: the command and settings of each step, sized to the scans."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alice3d import console, files, outputs
from alice3d.config import CommandConfig
from alice3d.replacement import REPLACEMENT

MATCHER_STEPS = 200
PRETRAIN_STEPS = 140
FINETUNE_STEPS = 400
SCAN_PAIRS = 40
"""At these sizes the whole demo takes about five minutes on two cores."""
LARGEST_CROP = 48
SMALLEST_CROP = 16
STRIDE = 8
"""Crop sides are multiples of it."""


@dataclass(frozen=True)
class Size:
    """What the plan depends on.

    Attributes:
        crop: voxels per side of the crops for pre-training.
        patch: voxels per side of the crops for training with labels.
        labels: labelled scans for training; 0 where there are too few.
        split: the split whose labelled scans are scored.
        effort: multiplies the training steps.
        seed, device, threads: of every step.
    """

    crop: int
    patch: int
    labels: int
    split: str
    effort: float
    seed: int
    device: str
    threads: int

    def steps(self, usual: int) -> int:
        """Training steps at this effort."""
        return max(round(usual * self.effort), 1)


@dataclass(frozen=True)
class Planned:
    """One step.

    Attributes:
        command: name of the command.
        title: of the step, unique.
        what: what it does, in a line.
        config: its settings.
    """

    command: str
    title: str
    what: str
    config: CommandConfig


def planned(command: str, title: str, what: str, values: Mapping[str, Any]) -> Planned:
    """A step from the command's name and the settings that are not its defaults."""
    module = importlib.import_module(f"alice3d.commands.{command.replace('-', '_')}")
    kind: type[CommandConfig] = getattr(module, "".join(part.capitalize() for part in command.split("-")) + "Config")
    return Planned(command, title, what, kind.checked(dict(values), f"demo, {title}"))


def crop_for(shortest_voxels: float) -> int:
    """Crop side for scans whose shortest side has this many voxels: a multiple of the stride, 16 to 48."""
    side = int(shortest_voxels) // STRIDE * STRIDE
    return min(max(side, SMALLEST_CROP), LARGEST_CROP)


def learning_steps(out: Path, size: Size, landmarks: Path | None) -> list[Planned]:
    """From the store to an encoder; the landmarks, where there are any, measure the matcher."""
    common = {"seed": size.seed, "device": size.device, "threads": size.threads}
    store, matcher, pairs = out / "store", out / "matcher", out / "pairs"
    steps = [
        planned(
            "train-matcher",
            "train-matcher",
            "train a matcher, without labels",
            {
                "store": store,
                "out": matcher,
                "steps": size.steps(MATCHER_STEPS),
                "batch": 2,
                "crop": size.crop,
                **common,
            },
        )
    ]
    if landmarks is not None:
        steps.append(
            planned(
                "evaluate-matcher",
                "evaluate-matcher",
                "measure its errors at landmarks of other patients, in mm",
                {
                    "matcher": str(matcher),
                    "store": store,
                    "landmarks": landmarks,
                    "split": "test",
                    "out": out / "matcher-scores.json",
                    **common,
                },
            )
        )
    return [
        *steps,
        planned(
            "pair",
            "pair",
            "match points between patients into a table",
            {"store": store, "matcher": str(matcher), "out": pairs, "scan_pairs": SCAN_PAIRS, **common},
        ),
        planned(
            "pretrain",
            "pretrain",
            "pre-train an encoder on matched crops of two patients (Alice)",
            {
                "store": store,
                "out": out / "encoder",
                "pairs": pairs,
                "init": str(matcher),
                "steps": size.steps(PRETRAIN_STEPS),
                "batch": 2,
                "crop": size.crop,
                **common,
            },
        ),
    ]


def without_pairs(step: Planned) -> Planned:
    """The same pre-training with both crops from one scan, for a table that maps no scan to another."""
    return replace(step, config=step.config.model_copy(update={"pairs": None}))


def segmentation_steps(out: Path, size: Size) -> list[Planned]:
    """From the encoder to scored segmenters: from scratch, from Alice, and a linear head on frozen Alice."""
    common = {"seed": size.seed, "device": size.device, "threads": size.threads}
    store, encoder = out / "store", str(out / "encoder")
    few = f"{size.labels} labelled scan{'s' if size.labels > 1 else ''}"
    training = {
        "store": store,
        "labels": size.labels,
        "steps": size.steps(FINETUNE_STEPS),
        "batch": 2,
        "crop": size.patch,
        **common,
    }
    models = {
        "scratch": (f"a segmenter from {few}, from scratch", training),
        "Alice": (f"a segmenter from the same {few}, from Alice’s encoder", {**training, "encoder": encoder}),
        "linear": (
            f"one linear layer on the frozen encoder, from the same {few}",
            {"store": store, "labels": size.labels, "head": "linear", "encoder": encoder, **common},
        ),
    }
    steps = []
    for name, (what, values) in models.items():
        folder = out / f"model-{name.lower()}"
        steps.append(planned("finetune", f"finetune {name}", what, {**values, "out": folder}))
        scored = {"model": folder, "store": store, "split": size.split, **common}
        steps.append(planned("evaluate", f"evaluate {name}", f"score it on split {size.split}", scored))
    return steps


def command_line(step: Planned) -> str:
    """The call that repeats a step: its positional settings, then those that are not the defaults."""
    config, kind = step.config, type(step.config)
    words = ["alice", step.command]
    for name in kind.positional:
        value = getattr(config, name)
        words += [_said(part) for part in value] if isinstance(value, (list, tuple)) else [_said(value)]
    for name, field in kind.model_fields.items():
        value = getattr(config, name)
        if (
            name in kind.positional
            or name in ("device", "threads")
            or value == field.get_default(call_default_factory=True)
        ):
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, dict):
            words += [word for key, part in value.items() for word in (f"--{option}.{key}", str(part))]
        else:
            said = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else _said(value)
            words += [f"--{option}", said]
    return shlex.join(words)


def _said(value: Any) -> str:
    """A value as it will hold when the demo is complete, in its folder."""
    return str(outputs.shown(value)) if isinstance(value, Path) else str(value).replace(f"{os.sep}{REPLACEMENT}", "")


TIMES = "times.json"
"""Step to [seconds over all calls, whether it is finished]."""


@dataclass(frozen=True)
class Done:
    """A finished step: its name, what it did, the command that repeats it, its seconds over all calls."""

    name: str
    what: str
    command: str
    seconds: float


class Walk:
    """Runs steps and keeps their times in `out/times.json`.

    Args:
        out: folder of the demo.

    Attributes:
        total: number of steps, for the count that is shown; 0 while it is not known.
    """

    def __init__(self, out: Path) -> None:
        self.out, self.total = out, 0
        self.done: list[Done] = []
        try:
            self.times: dict[str, list[Any]] = json.loads((out / TIMES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.times = {}

    def take(self, name: str, what: str, command: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Run one step; the standard output of its command is left out, its warnings and progress are shown."""
        before, finished = self.times.get(name, [0.0, False])
        count = f"{len(self.done) + 1}/{self.total}" if self.total else f"{len(self.done) + 1}"
        console.say(f"[{count}] {name}: {what}")
        begun = time.monotonic()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                result = work()
        finally:
            if not finished:
                self._remember(name, before + time.monotonic() - begun, finished=False)
        if not finished:
            self._remember(name, self.times[name][0], finished=True)
        seconds = self.times[name][0]
        note = " (already done)" if finished else ""
        console.say(f"        {seconds:.0f} s{note}")
        self.done.append(Done(name, what, command, seconds))
        return result

    def command(self, step: Planned) -> dict[str, Any]:
        """Run the step that a plan describes."""
        module = importlib.import_module(f"alice3d.commands.{step.command.replace('-', '_')}")
        return self.take(step.title, step.what, command_line(step), lambda: dict(module.run(step.config)))

    def _remember(self, name: str, seconds: float, *, finished: bool) -> None:
        self.times[name] = [round(seconds, 2), finished]
        files.write_text(self.out / TIMES, json.dumps(self.times, indent=1))
