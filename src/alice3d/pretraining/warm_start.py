"""Weights that self-supervised training starts from: what they settle, and how they are taken over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from alice3d import console
from alice3d.data.preprocessing.intensity import IntensityRule, parse_windows
from alice3d.errors import UserError
from alice3d.methods.base import PretrainMethod
from alice3d.nn.backbones.registry import check_options, default_options
from alice3d.pretraining.settings import SelfSupervisedSettings
from alice3d.weights.files import read_card, read_state


def load_matching(method: PretrainMethod, path: Path) -> int:
    """Start a method from weights: the backbone, and the dense head where both have one of the same shape.

    Args:
        method: freshly built; its target branch is made equal to the online one again.
        path: safetensors file of an encoder or a matcher; the card beside it says which.

    Returns:
        number of tensors taken.

    Raises:
        UserError: nothing of the backbone fits.
    """
    state = read_state(path)
    if read_card(path, "encoder", "matcher")["kind"] == "encoder":
        state = {f"backbone.{key}": value for key, value in state.items()}
    # The matcher's head is the dense head of Alice and the network of SAM.
    state |= {f"network.{key}": value for key, value in state.items() if key.startswith(("backbone.", "head."))}
    state |= {f"dense.{key[5:]}": value for key, value in state.items() if key.startswith("head.")}
    own = method.state_dict()
    taken = {
        key: value.to(own[key].dtype) for key, value in state.items() if key in own and own[key].shape == value.shape
    }
    missed = [key for key in own if key.startswith("backbone.") and key not in taken]
    if missed:
        raise UserError(f"--init: {path.name} does not fit the backbone ({missed[0]} is missing or of another shape)")
    method.load_state_dict(taken, strict=False)
    method.reset_target()
    return len(taken)


C = TypeVar("C", bound=SelfSupervisedSettings)


FREE = ("checkpoint",)
"""Options of a backbone that change no weight: they may differ from the card's."""


def follow_card(config: C, card: Mapping[str, Any], modality: str) -> C:
    """The settings of a run that starts from weights: backbone, its options and windows are those of the card.

    Args:
        config: of the command.
        card: of the weights that `--init` names.
        modality: of the store.

    Raises:
        UserError: the weights are of another modality, or a setting that was given contradicts the card.
    """
    rule = IntensityRule(**card["intensity"])
    if rule.modality != modality:
        raise UserError(
            f"--init: the weights learnt from {rule.modality.upper()}, the store holds {modality.upper()}; leave it "
            f"out or give weights of {modality.upper()}"
        )
    name, options = card["backbone"]["name"], dict(card["backbone"].get("options") or {})
    if "backbone" in config.model_fields_set and config.backbone != name:
        raise UserError(f"--backbone {config.backbone}: the weights of --init are of {name}; leave one out")
    check_options(name, config.backbone_options)
    known = {**default_options(name), **options}
    for key, value in config.backbone_options.items():
        if key in FREE:
            options[key] = value
        elif _plain(value) != _plain(known[key]):
            raise UserError(f"--backbone-options.{key} {value}: the weights of --init have {known[key]}; leave one out")
    windows = config.windows
    if rule.modality == "ct":
        windows = ",".join(f"{low:.12g}:{high:.12g}" for low, high in rule.windows)
        if "windows" in config.model_fields_set and parse_windows(config.windows) != rule.windows:
            raise UserError(f"--windows {config.windows}: the weights of --init read {windows}; leave one out")
    return config.model_copy(update={"backbone": name, "backbone_options": options, "windows": windows})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def tell_of_spacing(start: Mapping[str, Any], stored_mm: list[float]) -> None:
    """Say where the weights learnt at another spacing than the store's.

    Args:
        start: as `described_start` gives it.
        stored_mm: spacing of the store along x, y, z.
    """
    theirs = start["spacing_mm"]
    if any(abs(a - b) > 1e-3 * b for a, b in zip(theirs, stored_mm, strict=True)):
        shown = [" x ".join(f"{mm:g}" for mm in spacing) for spacing in (stored_mm, theirs)]
        console.say(f"Reading at the store's spacing of {shown[0]} mm; the weights of --init learnt at {shown[1]} mm.")
