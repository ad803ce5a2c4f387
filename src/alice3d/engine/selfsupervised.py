"""From a store to trained weights: the road that `train-matcher` and `pretrain` share."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import torch

from alice3d.config import Config
from alice3d.data.intensity import IntensityRule
from alice3d.data.pairs import PairsTable
from alice3d.data.store import Case, Store
from alice3d.data.views import PairSamples, Partner, ViewSettings
from alice3d.engine.fit import FitResult, fit
from alice3d.engine.settings import SelfSupervisedSettings
from alice3d.errors import UserError
from alice3d.methods.base import PretrainMethod, find_method, method_config
from alice3d.nn.backbone import build_backbone
from alice3d.nn.weights import backbone_of, find_weights, read_card, read_state

AUTO_SPLITS = ("pretrain", "train")
"""Splits that self-supervised training takes by default; val and test stay unseen."""


def choose_cases(store: Store, split: str) -> list[Case]:
    """Cases of the named splits (comma separated); `auto` takes pretrain and train where they exist, else all.

    Raises:
        UserError: no case in them.
    """
    cases = store.cases()
    known = sorted({case.split for case in cases if case.split})
    if split == "auto":
        names = [name for name in AUTO_SPLITS if name in known]
        return [case for case in cases if case.split in names] if names else cases
    names = [name.strip() for name in split.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"split: the store has no split {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    return [case for case in cases if case.split in names]


def intensity_rule(store: Store, windows: str) -> IntensityRule:
    """The rule for a store's modality, with windows written as `LOW:HIGH,LOW:HIGH` in HU.

    Raises:
        UserError: not of that form.
    """
    if store.spec.modality != "ct":
        return IntensityRule(modality="mr", windows=())
    try:
        pairs = tuple((float(low), float(high)) for low, high in (part.split(":") for part in windows.split(",")))
        return IntensityRule(modality="ct", windows=pairs)
    except ValueError as error:
        raise UserError(f"windows: {windows!r} is not LOW:HIGH,LOW:HIGH in HU with LOW < HIGH ({error})") from None


def source_commit() -> str | None:
    """Commit of the source tree this program runs from; None where it was installed from a package."""
    root = Path(__file__).parents[3]
    if not (root / "pyproject.toml").is_file():
        return None
    done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def load_matching(method: PretrainMethod, name_or_path: str | Path) -> int:
    """Start a method from weights: the backbone, and the dense head where both have one of the same shape.

    Args:
        method: freshly built; its target branch is made equal to the online one again.
        name_or_path: an encoder or a matcher.

    Returns:
        number of tensors taken.

    Raises:
        UserError: nothing of the backbone fits.
    """
    path = find_weights(name_or_path, "encoder", "matcher")
    state = read_state(path)
    if path.name.startswith("encoder"):
        state = {f"backbone.{key}": value for key, value in state.items()}
    # The matcher's head is the dense head of Alice and the network of SAM.
    state |= {f"network.{key}": value for key, value in state.items() if key.startswith(("backbone.", "head."))}
    state |= {f"dense.{key[5:]}": value for key, value in state.items() if key.startswith("head.")}
    own = method.state_dict()
    taken = {key: value.to(own[key].dtype) for key, value in state.items() if key in own and own[key].shape == value.shape}
    missed = [key for key in own if key.startswith("backbone.") and key not in taken]
    if missed:
        raise UserError(f"init: {name_or_path} does not fit the backbone ({missed[0]} is missing or of another shape)")
    method.load_state_dict(taken, strict=False)
    method.reset_target()
    return len(taken)


def train(
    config: SelfSupervisedSettings,
    *,
    method_name: str,
    options: dict[str, Any],
    partner: Partner,
    hidden_share: float,
    block: int,
    device: torch.device,
) -> tuple[PretrainMethod, FitResult, dict[str, Any]]:
    """Train one method on a store's scans.

    Returns:
        the trained method, what the loop says of the run, and the card without its weights' own entries.

    Raises:
        UserError: the store, the split, the pairs table or an option is wrong.
    """
    store = Store.open(config.store)
    cases = choose_cases(store, config.split)
    pairs = PairsTable.open(config.pairs) if config.pairs is not None else None
    kind = find_method(method_name)
    settings = method_config(kind, options)
    rule = intensity_rule(store, config.windows)
    name, backbone_options = config.backbone, dict(config.backbone_options)
    if config.init is not None:  # the weights say which network they are of
        card = read_card_of(config.init)
        rule = IntensityRule(**card["intensity"])
        name, backbone_options = card["backbone"]["name"], card["backbone"].get("options", {})
    torch.manual_seed(config.seed)  # initial weights
    backbone = build_backbone(name, rule.channels, backbone_options)
    if config.crop % backbone.stride:
        raise UserError(f"crop: {config.crop} voxels is no multiple of the backbone's stride {backbone.stride}")
    method = kind(backbone, settings, crop=config.crop, total_steps=config.steps)
    if config.init is not None:
        load_matching(method, config.init)
    spacing = tuple(float(value) for value in store.spec.spacing_mm)
    samples = PairSamples(
        store=store,
        cases=cases,
        rule=rule,
        settings=ViewSettings(
            crop=config.crop,
            spacing_mm=spacing,  # type: ignore[arg-type]
            rotation_deg=config.rotation,
            scale=(config.scale_low, config.scale_high),
            hidden_share=hidden_share if kind.needs_masks else None,
            block=block,
            matched_share=config.matched_share,
            points=config.points,
            candidates=config.candidates,
        ),
        partner=partner,
        pairs=pairs,
        patch=backbone.stride,
        seed=config.seed,
    )
    result = fit(method, samples, config, config.out, device=device, seed=config.seed)
    described = {
        "backbone": {"name": name, "options": backbone_options, "in_channels": rule.channels},
        "spacing_mm": list(spacing),
        "intensity": rule.model_dump(),
        "crop": config.crop,
        "method": {"name": method_name, "options": _plain(settings)},
        "partner": partner,
        "pairs": pairs.card.get("checksum") if pairs is not None else None,
        "init": str(config.init) if config.init is not None else None,
        "steps": result.steps,
        "batch": config.batch,
        "loss": result.loss,
        "seed": config.seed,
        "cases": [{"id": case.id, "checksum": case.checksum} for case in cases],
        "licence": config.licence,
        "source_commit": source_commit(),
    }
    return method, result, described


def read_card_of(name_or_path: str | Path) -> dict[str, Any]:
    """The card of an encoder or a matcher."""
    path = find_weights(name_or_path, "encoder", "matcher")
    card = read_card(path, "matcher" if path.name.startswith("matcher") else "encoder")
    backbone_of(card)  # refuses a backbone that this program does not know
    return card


def _plain(settings: Config) -> dict[str, Any]:
    plain: dict[str, Any] = settings.model_dump(mode="json")
    return plain
