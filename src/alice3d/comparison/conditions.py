"""Conditions of each arm of a comparison: a fair training from scratch, and differences between arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from alice3d.comparison.arms import Arm
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Store
from alice3d.data.store.read_grid import intensity_rule
from alice3d.errors import UserError
from alice3d.pretraining.settings import PretrainConfig, SelfSupervisedSettings
from alice3d.weights.card import crop_of

T = TypeVar("T")
NOT_CONDITIONS = SelfSupervisedSettings.uncounted | {"out", "overwrite", "device", "threads", "seed", "licence"}
COUNTED = [name for name in SelfSupervisedSettings.model_fields if name not in NOT_CONDITIONS]
"""Settings of the loop, the network and the crops: all but those of the objective, which is compared."""
CROPS = (
    *("steps", "batch", "crop", "split", "rotation", "scale_low", "scale_high"),
    *("partner", "matched_share", "local_affine"),
)
"""Arms with equal values of these get the same crops in the same order."""


@dataclass(frozen=True)
class Conditions:
    """The network of an arm, how it reads scans, and how it was trained.

    Attributes:
        backbone, options: the network.
        rule: intensity rule, voxels to channels.
        spacing_mm: of the scans on reading.
        crop: voxels per side.
        start: where its initial weights come from: `random`, `warm start` or `its own`.
        training: settings of its training, by name; {} where none is known.
        trained_here: by this comparison.
    """

    backbone: str
    options: dict[str, Any]
    rule: IntensityRule
    spacing_mm: tuple[float, float, float]
    crop: int
    start: str = "random"
    training: dict[str, Any] = field(default_factory=dict)
    trained_here: bool = False

    def shown(self) -> dict[str, Any]:
        """All of it as plain values, by the names of the settings."""
        return {
            "backbone": self.backbone,
            "backbone_options": self.options,
            "windows": windows_of(self.rule),
            "spacing_mm": list(self.spacing_mm),
            **self.training,
            "crop": self.crop,
        }


def windows_of(rule: IntensityRule) -> str:
    """Windows as `alice pretrain --windows` takes them; `mr` for MR, which has none."""
    if rule.modality == "mr":
        return "mr"
    return ",".join(f"{low:g}:{high:g}" for low, high in rule.windows)


def of_card(card: Mapping[str, Any], start: str) -> Conditions:
    """Conditions of an encoder that exists, by its card; of the warm start without the steps that made it."""
    x, y, z = (float(mm) for mm in card["spacing_mm"])
    return Conditions(
        backbone=card["backbone"]["name"],
        options=dict(card["backbone"].get("options") or {}),
        rule=IntensityRule(**card["intensity"]),
        spacing_mm=(x, y, z),
        crop=crop_of(card),
        start=start,
        training={name: card[name] for name in ("steps", "batch", "partner") if start == "its own" and name in card},
    )


def of_training(trained: PretrainConfig, partner: str, store: Store, warm: Mapping[str, Any] | None) -> Conditions:
    """Conditions of an arm that is trained; the warm start, where there is one, determines network and windows."""
    plain = trained.model_dump(mode="json")
    start = of_card(warm, "warm start") if warm is not None else None
    return Conditions(
        backbone=start.backbone if start else trained.backbone,
        options=start.options if start else dict(trained.backbone_options),
        rule=start.rule if start else intensity_rule(store, trained.windows),
        spacing_mm=store.spec.spacing_mm,
        crop=trained.crop,
        start="warm start" if start else "random",
        training={
            **{name: plain[name] for name in COUNTED if name not in ("backbone", "backbone_options", "windows")},
            "partner": partner,
        },
        trained_here=True,
    )


def fair_scratch(arm: Arm, others: Mapping[str, Conditions], usual: Conditions, store: Store) -> Conditions:
    """Random weights with the same conditions as the other arms.

    Args:
        arm: may give `backbone`, `backbone_options`, `windows` and `crop` itself.
        others: the arms that are not scratch.
        usual: defaults where there is no other arm, and the crop where those differ.
        store: of the scans.

    Raises:
        UserError: the others differ, so that none matches them all, and the arm does not define its own.
    """
    own = arm.scratch
    found = others or {"": usual}
    name = own.get("backbone") or _agreed(arm, found, "backbone", lambda one: one.backbone)
    options = own.get("backbone_options")
    if options is None:
        options = {} if "backbone" in own else _agreed(arm, found, "backbone_options", lambda one: one.options)
    peers = {key: one for key, one in found.items() if (one.backbone, one.options) == (name, options)} or found
    if "windows" in own:
        rule = intensity_rule(store, own["windows"])
    else:
        rule = _agreed(arm, peers, "windows", lambda one: one.rule)
    spacings, crops = {one.spacing_mm for one in peers.values()}, {one.crop for one in peers.values()}
    return Conditions(
        backbone=name,
        options=dict(options),
        rule=rule,
        spacing_mm=spacings.pop() if len(spacings) == 1 else store.spec.spacing_mm,
        crop=own["crop"] if "crop" in own else crops.pop() if len(crops) == 1 else usual.crop,
    )


def _agreed(arm: Arm, others: Mapping[str, Conditions], setting: str, value: Callable[[Conditions], T]) -> T:
    """The value that the other arms have in common."""
    (first, one), *rest = others.items()
    for name, other in rest:
        if value(other) != value(one):
            raise UserError(
                f"arm {arm.name}: {first} and {name} differ in {setting}, so no scratch arm matches both; "
                f"give it `{setting}` under `arms` in a YAML, or compare them separately"
            )
    return value(one)


def differences(conditions: Mapping[str, Conditions], reference: str) -> dict[str, list[tuple[str, Any, Any]]]:
    """Arm to the (setting, its value, the standard value) in which it differs; the reference sets the standard.

    A setting that the reference lacks, as scratch has no steps, is compared with the first arm that has it.
    """
    standard: dict[str, Any] = {}
    for name in [reference, *conditions]:
        standard = {**conditions[name].shown(), **standard}
    found = {}
    for name, one in conditions.items():
        differing = [(key, value, standard[key]) for key, value in one.shown().items() if value != standard[key]]
        if differing:
            found[name] = differing
    return found


def described(conditions: Mapping[str, Conditions], reference: str) -> list[str]:
    """Lines for compare.md: what all arms have in common, and one line for each that differs."""
    trained = [one for one in conditions.values() if one.trained_here]
    same = [_first_weights(conditions)]
    if len(trained) > 1 and len({str([one.shown()[key] for key in CROPS]) for one in trained}) == 1:
        same.append("Trained arms have the same crops in the same order for a seed.")
    steps = {one.training["steps"] for one in trained}
    if len(steps) == 1:
        same.append(f"{steps.pop()} steps of pre-training.")
    same.append("Every arm has the same random subset of labelled cases for a seed.")
    lines = [" ".join(same)]
    found = differences(conditions, reference)
    if found:
        lines += ["", "Arms that differ in more than their objective:", ""]
    for name, its in found.items():
        said = (f"{key} {_plain(value)}, not {_plain(usual)}" for key, value, usual in its)
        lines.append(f"- `{name}`: {'; '.join(said)}")
    return lines


def _first_weights(conditions: Mapping[str, Conditions]) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, one in conditions.items():
        start = one.start
        same: Any = (
            [one.backbone, one.options, one.rule.channels] if start == "random" else name if start == "its own" else ""
        )
        groups.setdefault((start, str(same)), []).append(name)
    if len(groups) == 1:
        return "Every arm has the same initial weights for a seed."
    said = [f"{start} ({', '.join(f'`{name}`' for name in names)})" for (start, _), names in groups.items()]
    return f"Initial weights differ: {'; '.join(said)}."


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one}" for key, one in value.items()) or "default"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " x ".join(f"{one:g}" for one in value)
    return f"{value:g}" if isinstance(value, float) else "unset" if value is None else str(value)
