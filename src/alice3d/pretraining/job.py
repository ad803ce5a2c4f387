"""From a store to trained weights: the road that `train-matcher` and `pretrain` share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml

from alice3d import distributed, files, outputs
from alice3d.config import Config
from alice3d.data.pairs import PairsTable
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.base import Masks, Partner, Sampler, SamplerInputs
from alice3d.data.sampling.crops import ViewSettings
from alice3d.data.sampling.masks import hidden_patches
from alice3d.data.store import Store
from alice3d.data.store.pins import pin, pinned_cases
from alice3d.data.store.read_grid import intensity_rule
from alice3d.data.store.splits import choose_cases
from alice3d.device import resolve_device
from alice3d.engine import parallel
from alice3d.engine.fit import FitResult, fit
from alice3d.errors import UserError
from alice3d.methods.base import PretrainMethod, find_method, method_config
from alice3d.nn.backbones.registry import build_backbone
from alice3d.pretraining.collapse import CollapseGuard
from alice3d.pretraining.monitors import Monitors, Probe
from alice3d.pretraining.settings import SelfSupervisedSettings
from alice3d.pretraining.warm_start import follow_card, load_matching, tell_of_spacing
from alice3d.weights.files import read_card_of
from alice3d.weights.provenance import described, described_start, report_held_out, source_commit

C = TypeVar("C", bound=SelfSupervisedSettings)
Around = Callable[[Path], contextlib.AbstractContextManager[None]]
"""Entered with the output folder while training runs."""


def no_page(out: Path) -> contextlib.AbstractContextManager[None]:
    """Nothing is drawn."""
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Job:
    """Everything that training needs, checked; nothing is written yet.

    Attributes:
        config: as given; where training starts from weights, with their backbone, its options and their windows.
        method: freshly built, started from `init` where asked.
        samples: by number.
        settings: what the result depends on, inputs by checksum.
        card: of the weights, without what training itself adds.
        pinned: what it chose of the store, see `data.store.pins`.
        former: see `outputs.check`.
    """

    config: SelfSupervisedSettings
    method: PretrainMethod
    samples: Sampler
    settings: dict[str, Any]
    card: dict[str, Any]
    pinned: dict[str, Any]
    former: dict[str, tuple[Any, Any]]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size at which scans are read, along R, A, S."""
        x, y, z = self.card["spacing_mm"]
        return x, y, z


def with_defaults(config: C, kind: type[PretrainMethod]) -> C:
    """The settings with those that a method recommends where the user gave none.

    Raises:
        UserError: the method recommends what is no setting, or a value out of range.
    """
    missing = {key: value for key, value in kind.defaults.items() if key not in config.model_fields_set}
    if not missing:
        return config
    given = {key: getattr(config, key) for key in config.model_fields_set}
    return type(config).checked({**given, **missing}, f"defaults of method {kind.__name__}")


def prepare_training(
    config: SelfSupervisedSettings,
    method_name: str,
    options: dict[str, Any],
    *,
    partner: Partner,
    masks: Masks,
    kind: str = "encoder",
) -> Job:
    """Open the inputs, build network and method, and check that all fits together.

    Args:
        config: of the command.
        method_name, options: which objective, with which settings.
        partner: where second crops come from, see `MatchedPair`.
        masks: how masks are drawn, where the method wants them.
        kind: of the result, see `train`.

    Raises:
        UserError: the store, the split, the pairs table, the weights to start from or an option is wrong.
    """
    method_kind = find_method(method_name)
    settings = method_config(method_kind, options)
    config = with_defaults(config, method_kind)
    store = Store.open(config.store)
    pairs = PairsTable.open(config.pairs) if config.pairs is not None else None
    rule = intensity_rule(store, config.windows)
    initial: Path | None = None
    start: dict[str, Any] | None = None
    if config.init is not None:  # the weights say which network they are of, and how it reads scans
        initial, card = read_card_of(config.init)
        config = follow_card(config, card, rule.modality)
        rule = IntensityRule(**card["intensity"])
        start = described_start(card, files.file_sha256(initial))
    if config.scale_low > config.scale_high:
        raise UserError(f"--scale-low {config.scale_low:g} is above --scale-high {config.scale_high:g}")
    inputs = {"pairs": pairs and pairs.card.get("checksum"), "init": start and start["checksum"]}
    known = config.settings(**inputs)
    cases = pinned_cases(store, config.out, kind, known, overwrite=config.overwrite)
    cases = cases or choose_cases(store, config.split)
    report_held_out(store, cases)
    method = _build(config, method_kind, settings, method_name, rule.channels)
    wants = method.wants()
    _refuse_unfit(method, config, masks.ratio if getattr(wants, "masks", False) else None)
    if initial is not None:
        load_matching(method, initial)
    given = SamplerInputs(
        store=store,
        cases=cases,
        rule=rule,
        views=_views(config, store),
        masks=masks,
        partner=partner,
        pairs=pairs,
        patch=method.backbone.stride,
        seed=config.seed,
    )
    about = _card(config, given, method_name, settings, start)
    checksum = store.checksum_of(cases)
    return Job(
        config,
        method,
        method_kind.Sampler.of(given, wants),
        config.settings(**inputs, store=checksum),
        about,
        pin(store, cases),
        {"store": (store.checksum, checksum)},
    )


def _card(
    config: SelfSupervisedSettings,
    given: SamplerInputs,
    method_name: str,
    settings: Config,
    start: dict[str, Any] | None,
) -> dict[str, Any]:
    """What the card of the weights says but what training itself adds."""
    return {
        "backbone": {
            "name": config.backbone,
            "options": dict(config.backbone_options),
            "in_channels": given.rule.channels,
        },
        "spacing_mm": list(given.views.spacing_mm),
        "intensity": given.rule.model_dump(mode="json"),
        "crop": config.crop,
        "method": {"name": method_name, "options": settings.model_dump(mode="json")},
        "partner": given.partner,
        "pairs": given.pairs.card.get("checksum") if given.pairs is not None else None,
        "init": start,
        "steps": config.steps,
        "batch": config.batch,
        "seed": config.seed,
        "cases": described(given.cases if find_method(method_name).Sampler.reads_scans else []),
        "licence": config.licence,
        "source_commit": source_commit(),
    }


def _build(
    config: SelfSupervisedSettings, kind: type[PretrainMethod], settings: Any, name: str, channels: int
) -> PretrainMethod:
    """The method around a fresh backbone; initial weights are drawn from the run's seed."""
    torch.manual_seed(config.seed)
    backbone = build_backbone(config.backbone, channels, dict(config.backbone_options))
    if config.crop % backbone.stride:
        raise UserError(f"--crop: {config.crop} voxels is no multiple of the backbone's stride {backbone.stride}")
    try:
        return kind(backbone, settings, crop=config.crop, total_steps=config.steps)
    except ValueError as error:  # sizes that do not fit one another: heads and widths, strides
        raise UserError(f"method {name} with backbone {config.backbone}: {error}") from None


def _views(config: SelfSupervisedSettings, store: Store) -> ViewSettings:
    """How crops are drawn."""
    x, y, z = (float(value) for value in store.spec.spacing_mm)
    return ViewSettings(
        crop=config.crop,
        spacing_mm=(x, y, z),
        rotation_deg=config.rotation,
        scale=(config.scale_low, config.scale_high),
        matched_share=config.matched_share,
        local_affine=config.local_affine,
        points=config.points,
        candidates=config.candidates,
    )


def _refuse_unfit(method: PretrainMethod, config: SelfSupervisedSettings, mask_ratio: float | None) -> None:
    """Refuse a batch or masks from which the method cannot learn."""
    pairs = parallel.share_size(config.batch, config.accumulate, distributed.announced())
    if pairs < method.fewest_pairs:
        raise UserError(
            f"--batch: these options need {method.fewest_pairs} pairs at a time in each process, there would be "
            f"{pairs}; take a larger --batch, or a smaller --accumulate"
        )
    together = pairs * distributed.announced()
    if together < method.fewest_pairs_together:
        reason = method.advice.get("pairs", "take a larger --batch, or a smaller --accumulate")
        raise UserError(
            f"--batch: these options need {method.fewest_pairs_together} pairs in one forward pass of all processes, "
            f"there would be {together}; {reason}"
        )
    patches = (config.crop // method.backbone.stride) ** 3
    if mask_ratio is not None and method.needs_hidden and not hidden_patches(patches, mask_ratio):
        advice = "a larger --crop" if patches == 1 else "a larger --mask-ratio or --crop"
        raise UserError(
            f"--mask-ratio: {mask_ratio:g} of a crop's patches ({patches}) hides none, and hidden ones are what "
            f"the method learns from; take {advice}"
        )


def train(
    job: Job, state: outputs.State, kind: str = "encoder", *, probe: Probe | None = None, probe_every: int = 0
) -> tuple[FitResult, dict[str, Any]]:
    """Run the loop; the output folder is claimed just before the first write.

    Args:
        job: what `prepare_training` made.
        state: what `outputs.check` said of the folder.
        kind: what it was asked for: `encoder` or `matcher`.
        probe, probe_every: see `Monitors`.

    Returns:
        what the loop says of the run, and the card.
    """
    config = job.config

    def claim() -> None:
        more = {"pinned": job.pinned}
        outputs.begin(config.out, kind, job.settings, state=state, overwrite=config.overwrite, more=more)
        written = {**config.model_dump(mode="json"), "out": str(outputs.shown(config.out))}
        files.write_text(config.out / "config.yaml", yaml.safe_dump(written, sort_keys=False))

    device = resolve_device(config.device, config.threads)
    watch = Monitors(job.method, job.samples, config, probe=probe, probe_every=probe_every)
    method = job.method
    guard = CollapseGuard(config.steps, config.on_collapse, idle=method.idle_heads, advice=method.advice)
    if job.card["init"] is not None and distributed.is_chief():
        tell_of_spacing(job.card["init"], job.card["spacing_mm"])
    result = fit(job.method, job.samples, config, device=device, claim=claim, watch=watch, guard=guard)
    return result, {**job.card, "loss": result.loss}
