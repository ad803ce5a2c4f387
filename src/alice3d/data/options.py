"""How scans are to be prepared, and what `auto` means for the scans at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import alice3d
from alice3d import console
from alice3d.data.intensity import IntensityRule
from alice3d.data.modality import guess_modality
from alice3d.data.read import read_header, read_voxels
from alice3d.data.scan import ScanError, Unoriented
from alice3d.data.sources import Found, Source
from alice3d.data.store import StoreSpec
from alice3d.errors import UserError
from alice3d.geometry import MAX_SPACING_MM, MIN_SPACING_MM, spacing_of, to_closest_ras

Spacing = tuple[float, float, float] | Literal["auto"]
GUESSED_FROM = 5
"""Scans whose numbers decide between CT and MR."""


@dataclass(frozen=True)
class PrepareOptions:
    """How scans are prepared.

    Attributes:
        labels: folder of label maps named like their scans.
        splits: JSON file, split name to list of ids.
        label_names: value to name of the declared classes; empty: what the layout declares, else anything goes.
        spacing_mm: (3,) along R, A, S, or `auto`: the median of the headers, or what the store has.
        modality: `auto` tells by the numbers, or takes what the store has.
        crop: `body` or `none`.
        unoriented: what files that do not say their orientation are taken for.
        channel: which of several channels a case (`_0000`, `_0001`); None refuses such cases.
        windows: CT windows (low, high) in HU that store.json names for models; the arrays do not depend on them.
        seed: of the default split.
        jobs: processes.
        shard: (i, n): only every n-th case, from the i-th (from 1), as one of n calls that fill one store.
        overwrite: an earlier store there may go.
        dry_run: look, and write nothing.
    """

    labels: Path | None = None
    splits: Path | None = None
    label_names: Mapping[int, str] | None = None
    spacing_mm: Spacing = "auto"
    modality: Literal["auto", "ct", "mr"] = "auto"
    crop: Literal["body", "none"] = "body"
    unoriented: Unoriented = "refuse"
    channel: int | None = None
    windows: tuple[tuple[float, float], ...] = ()
    seed: int = 0
    jobs: int = 1
    shard: tuple[int, int] | None = None
    overwrite: bool = False
    dry_run: bool = False


def check_settings(store: Path, spec: StoreSpec, options: PrepareOptions, names: Mapping[int, str]) -> None:
    """Refuse to add to a store that was made otherwise."""
    wanted: list[tuple[str, Any, Any]] = [("crop", spec.crop, options.crop)]
    if options.spacing_mm != "auto":
        wanted.append(("spacing_mm", spec.spacing_mm, tuple(float(mm) for mm in options.spacing_mm)))
    if options.windows:
        wanted.append(("windows", spec.intensity.windows, options.windows))
    if options.modality != "auto":
        wanted.append(("modality", spec.modality, options.modality))
    if names:
        wanted.append(("label_names", spec.label_names, dict(names)))
    for field, was, now in wanted:
        if was != now:
            raise UserError(
                f"{store}: was made with {field} {_plain(was)}, this call has {_plain(now)}; "
                "choose another folder or give --overwrite"
            )


def _plain(value: Any) -> str:
    numbers = isinstance(value, tuple) and all(isinstance(mm, float) for mm in value)
    text = ",".join(f"{mm:g}" for mm in value) if numbers else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def new_spec(found: Found, options: PrepareOptions, names: dict[int, str]) -> StoreSpec:
    """Settle what is `auto` by looking at the scans."""
    spacing, modality = options.spacing_mm, options.modality
    usable = [source for source in found.sources if not source.fault]
    if spacing == "auto":
        spacing = _median_spacing(usable, options)
    if not all(MIN_SPACING_MM <= mm <= MAX_SPACING_MM for mm in spacing):
        raise UserError(f"spacing: {_plain(spacing)} mm lies outside {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm")
    kind = _guess(usable, options) if modality == "auto" else modality
    return StoreSpec(
        made_by=f"alice3d {alice3d.__version__}",
        spacing_mm=spacing,
        modality=kind,
        intensity=IntensityRule(modality=kind, **({"windows": options.windows} if options.windows else {})),
        crop=options.crop,
        label_names=names,
        seed=options.seed,
    )


def _median_spacing(sources: list[Source], options: PrepareOptions) -> tuple[float, float, float]:
    """Median over the headers, along R, A and S, to a thousandth of a millimetre."""
    spacings, reasons = [], Counter[str]()
    with console.progress("Reading headers", len(sources)) as bar:
        for source in sources:
            try:
                header = read_header(source.path, files=source.files, unoriented=options.unoriented)
                _, affine = to_closest_ras(np.broadcast_to(np.uint8(0), header.shape), header.affine)
                spacings.append(spacing_of(affine))
            except ScanError as error:
                reasons[f"{source.name}: {error.reason}"] += 1
            bar.advance()
    if not spacings:
        raise _none_readable(sources, list(reasons))
    x, y, z = (round(float(mm), 3) for mm in np.median(spacings, axis=0))
    return x, y, z


def _guess(sources: list[Source], options: PrepareOptions) -> Literal["ct", "mr"]:
    """CT or MR by the numbers of a few scans, taken evenly from the list."""
    kinds: list[Literal["ct", "mr"]] = []
    reasons = []
    stride = max(len(sources) // GUESSED_FROM, 1)
    for source in [*sources[::stride], *sources]:
        try:
            header = read_header(source.path, files=source.files, unoriented=options.unoriented)
            kinds.append(guess_modality(read_voxels(header)))
        except ScanError as error:
            reasons.append(f"{source.name}: {error.reason}")
        if len(kinds) == min(GUESSED_FROM, len(sources)):
            break
    if not kinds:
        raise _none_readable(sources, reasons)
    return "ct" if kinds.count("ct") * 2 >= len(kinds) else "mr"


def _none_readable(sources: list[Source], reasons: list[str]) -> UserError:
    first = f"; the first: {reasons[0]}" if reasons else "; all have names in common"
    return UserError(f"none of the scans can be taken ({len(sources)} looked at){first}")
