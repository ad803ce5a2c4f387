"""How scans are to be prepared, and the values of `auto` for given scans."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alice3d import console
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.preprocessing.modality import NOT_CT, guess_modality, label_like
from alice3d.data.sources.sources import Found, Source
from alice3d.data.store import StoreSpec
from alice3d.errors import UserError
from alice3d.geometry import MAX_SPACING_MM, MIN_SPACING_MM, spacing_of, to_closest_ras
from alice3d.io.read import read_header, read_voxels
from alice3d.io.volume import Header, ScanError, Unoriented
from alice3d.version import __version__

Spacing = tuple[float, float, float] | Literal["auto"]
GUESSED_FROM = 5
"""Number of scans whose values are used to guess CT or MR."""
HEADERS = 64
"""About the number of DICOM series whose headers are asked for it."""


@dataclass(frozen=True)
class PrepareOptions:
    """How scans are prepared.

    Attributes:
        labels: folder of label maps named like their scans.
        splits: JSON file, split name to list of ids.
        label_names: value to name of the declared classes; empty: what the layout declares, otherwise all values are
            allowed.
        spacing_mm: (3,) along R, A, S, or `auto`: the median of the headers, or what the store has.
        modality: `auto` takes that of the DICOM headers or guesses it from the values, or takes that of the store.
        crop: `body` or `none`.
        unoriented: how files without orientation are treated.
        volume: of files with several volumes: `first`, `mean` or a number from 0; "" refuses them.
        channel: which of several channels of a case (`_0000`, `_0001`; `t1`, `flair`) is used; None refuses such cases.
        windows: CT windows (low, high) in HU that store.json records for models; the arrays do not depend on them.
        seed: of the default split.
        jobs: processes.
        shard: (i, n): only every n-th case, from the i-th (from 1), as one of n calls that fill one store.
        overwrite: replace an earlier store.
        prune: remove cases whose scans are gone from where they were found.
        dry_run: read headers, write nothing.
    """

    labels: Path | None = None
    splits: Path | None = None
    label_names: Mapping[int, str] | None = None
    spacing_mm: Spacing = "auto"
    modality: Literal["auto", "ct", "mr"] = "auto"
    crop: Literal["body", "none"] = "body"
    unoriented: Unoriented = "refuse"
    volume: str = ""
    channel: int | str | None = None
    windows: tuple[tuple[float, float], ...] = ()
    seed: int = 0
    jobs: int = 1
    shard: tuple[int, int] | None = None
    overwrite: bool = False
    prune: bool = False
    dry_run: bool = False


def check_settings(store: Path, spec: StoreSpec, options: PrepareOptions, names: Mapping[int, str]) -> None:
    """Refuse to add to a store that was made with other settings."""
    _check_windows(spec.modality, options)
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
    """Determine the values of `auto` from the scans."""
    spacing, modality = options.spacing_mm, options.modality
    if spacing == "auto":
        spacing = _median_spacing(found.sources, options)
    if not all(MIN_SPACING_MM <= mm <= MAX_SPACING_MM for mm in spacing):
        raise UserError(f"spacing: {_plain(spacing)} mm lies outside {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm")
    kind = _modality(found.sources, options) if modality == "auto" else modality
    _check_windows(kind, options)
    return StoreSpec(
        made_by=f"alice3d {__version__}",
        spacing_mm=spacing,
        modality=kind,
        intensity=IntensityRule(modality=kind, **({"windows": options.windows} if options.windows else {})),
        crop=options.crop,
        label_names=names,
        names_from_files=bool(names) and not (options.label_names or found.label_names),
        seed=options.seed,
    )


def _check_windows(modality: str, options: PrepareOptions) -> None:
    """MR is normalised by the statistics of its body: windows would never be used."""
    if options.windows and modality == "mr":
        raise UserError("windows: are CT windows in HU, and the store is MR; leave --windows out")


def _median_spacing(sources: list[Source], options: PrepareOptions) -> tuple[float, float, float]:
    """Median over the headers, along R, A and S, to a thousandth of a millimetre."""
    spacings, reasons = [], []
    with console.progress("Reading headers", len(sources)) as bar:
        for source in sources:
            try:
                header = _header(source, options)
                _, affine = to_closest_ras(np.broadcast_to(np.uint8(0), header.shape), header.affine)
                spacings.append(spacing_of(affine))
            except ScanError as error:
                reasons.append((source.name, error.reason))
            bar.advance()
    if not spacings:
        raise none_taken(reasons)
    x, y, z = (round(float(mm), 3) for mm in np.median(spacings, axis=0))
    return x, y, z


def _header(source: Source, options: PrepareOptions) -> Header:
    """The header of a scan.

    Raises:
        ScanError: it cannot be read, or is refused before it is opened.
    """
    if source.fault:
        raise ScanError(source.name, source.fault)
    return read_header(source.path, files=source.files, unoriented=options.unoriented, volume=options.volume)


def _modality(sources: list[Source], options: PrepareOptions) -> Literal["ct", "mr"]:
    """What the DICOM headers say, by majority, any other modality than CT counted as MR; else by the values."""
    said = []
    series = [source for source in sources if source.files and not source.fault]
    for source in series[:: max(len(series) // HEADERS, 1)]:
        with contextlib.suppress(ScanError):
            said.append(_header(source, options).details.get("modality", ""))
    known = [kind for kind in said if kind in ("CT", *NOT_CT)]
    if known:
        return "ct" if known.count("CT") * 2 >= len(known) else "mr"
    return _guess(sources, options)


def _guess(sources: list[Source], options: PrepareOptions) -> Literal["ct", "mr"]:
    """CT or MR by the values of a few scans, sampled evenly from the list."""
    kinds: list[Literal["ct", "mr"]] = []
    reasons = []
    usable = [source for source in sources if not source.fault]
    stride = max(len(usable) // GUESSED_FROM, 1)
    for source in dict.fromkeys([*usable[::stride], *usable]):
        try:
            array = read_voxels(_header(source, options))
            if reason := label_like(array):
                raise ScanError(source.name, reason)
            kinds.append(guess_modality(array))
        except ScanError as error:
            reasons.append((source.name, error.reason))
        if len(kinds) == min(GUESSED_FROM, len(usable)):
            break
    if not kinds:
        raise none_taken([*reasons, *((source.name, source.fault) for source in sources if source.fault)])
    return "ct" if kinds.count("ct") * 2 >= len(kinds) else "mr"


def none_taken(reasons: Sequence[tuple[str, str]]) -> UserError:
    """No scan can be used: the first scan of each kind of reason, three kinds at most.

    Args:
        reasons: name and reason of every scan.
    """
    first: dict[str, str] = {}
    for name, reason in reasons:
        first.setdefault(reason.split(":")[0], f"{name}: {reason}")
    some = "; ".join(list(first.values())[:3])
    return UserError(f"none of the {len(set(reasons))} scans can be taken; the first: {some}")
