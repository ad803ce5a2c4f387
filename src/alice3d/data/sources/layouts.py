"""Recognises the layout of a data set: a CSV of paths, lists in a JSON file, nnU-Net, pairs by name, plain folders."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from alice3d.data.sources.labels import with_labels
from alice3d.data.sources.listed import listed_source
from alice3d.data.sources.lists import DATASET as CASES
from alice3d.data.sources.lists import decathlon, has_lists, nnunet_dataset
from alice3d.data.sources.masks import names_of_masks
from alice3d.data.sources.nnunet import is_nnunet, nnunet
from alice3d.data.sources.recognised import claim_by_name
from alice3d.data.sources.sources import Found, plain_sources, without_duplicates
from alice3d.data.tables.csv_rows import read_rows
from alice3d.data.tables.label_names import named_values
from alice3d.errors import UserError
from alice3d.files import unique_keys
from alice3d.io.folders import clean
from alice3d.io.label_files import structures_of
from alice3d.io.structures import few, numbered
from alice3d.io.volume import ScanError

DATASET = "dataset.json"
IMAGE_COLUMNS = ("image", "scan", "path", "file")
COLUMNS = {
    "image": "path of a scan, inside the folder of the table; the column may also be called scan, path or file",
    "label": "path of its label map, or of a folder of binary masks; may be empty",
    "id": "case id; left out or empty, the file's name without extension",
    "split": "its split; the column left out, as `--splits` or a draw says; empty, in none",
    "patient": "any identifier of the patient: its cases share a split; the store keeps a salted hash of it",
}
"""Columns of a table of scans, and what they hold; image is needed."""
WITH_CHANNELS = ("nnU-Net", "MONAI", "BraTS", "BIDS")
"""Layouts whose cases may have several channels or sequences."""


def find_sources(scans: Path, labels: Path | None, channel: int | str | None = None) -> Found:
    """Every scan that the user means, with labels.

    Args:
        scans: a folder, one scan, a CSV of paths, or a JSON file that lists cases.
        labels: folder of label maps named like their scans, instead of those of the layout.
        channel: which of several channels of a case (`_0000`, `_0001`; `t1`, `flair`) is used; None refuses such
            cases.

    Raises:
        UserError: nothing there, or no scan in it.
    """
    try:
        if not scans.exists():
            raise UserError(f"{scans}: no such file or folder")
        if labels is not None and not labels.is_dir():
            raise UserError(f"{labels}: no such folder of labels")
        return _by_layout(scans, labels, None if channel is None else str(channel))
    except OSError as error:  # a folder that cannot be read
        raise UserError(f"{scans}: cannot be read ({error.strerror or type(error).__name__})") from None


def _by_layout(scans: Path, labels: Path | None, channel: str | None) -> Found:
    if scans.suffix.lower() == ".csv":
        found = _csv(scans)
    else:
        listing = scans if scans.suffix.lower() == ".json" else scans / DATASET
        content = _json(listing) if listing.is_file() else {}
        listed = _listed(listing, content, channel)
        if listed is None and listing == scans:
            raise UserError(f"{scans.name}: lists no scans under training, validation, test or {CASES}")
        if listed is not None:
            found = listed
        elif labels is None and (scans / "images").is_dir() and (scans / "labels").is_dir():
            found, labels = plain_sources(scans / "images"), scans / "labels"
            found = replace(found, layout="folders images and labels")
        else:
            found = plain_sources(scans, skip=labels, claim=claim_by_name(channel))
    if channel is not None and not any(word in found.layout for word in WITH_CHANNELS):
        ignored = "channel: is ignored, the cases of this input have one channel each"
        found = replace(found, warnings=[ignored, *found.warnings])
    return with_structures(with_labels(found, labels) if labels is not None else found)


def _listed(listing: Path, content: dict[str, Any], channel: str | None) -> Found | None:
    """The cases of an nnU-Net folder or of a JSON file that lists them, with the names that it declares."""
    folder, where = listing.parent, listing.name
    if isinstance(content.get(CASES), dict):
        found = nnunet_dataset(folder, content, where, channel)
    elif is_nnunet(folder, content):
        found = nnunet(folder, content, channel)
    elif has_lists(content):
        found = decathlon(folder, content, where, channel)
    else:
        return None
    names, warnings = named_values(content.get("labels"), where)
    return replace(found, label_names=names, warnings=[*warnings, *found.warnings])


def with_structures(found: Found) -> Found:
    """Number the structures of label files that name them, folders of masks among them, over all cases, where the
    layout does not declare values."""
    named, masks = [], set[str]()
    for source in found.sources:
        if source.fault:
            continue
        for path in source.label_files:
            with contextlib.suppress(ScanError, OSError):  # refused with a reason when its case is prepared
                if path.is_dir():
                    masks |= set(names_of_masks(path))
                else:
                    named.append(structures_of(path))
    structures = numbered([*named, sorted(masks)])
    alike = Counter(name.casefold() for name in structures.values())
    twice = [name for name in structures.values() if alike[name.casefold()] > 1]
    warning = f"structures whose names differ in case alone count as different ones: {few(twice)}"
    return replace(found, structures=structures, warnings=[*found.warnings, *([warning] if twice else [])])


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique_keys)
    except (OSError, ValueError, RecursionError) as error:
        said = str(error) if type(error) is ValueError else type(error).__name__  # others repeat what the file holds
        raise UserError(f"{path.name}: not valid JSON ({said})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name}: must hold a mapping")
    return content


def _csv(path: Path) -> Found:
    """A table with the columns image, and optionally label, id, split and patient."""
    named, rows = read_rows(path)
    columns = {name.lower(): name for name in named}
    image = next((columns[name] for name in IMAGE_COLUMNS if name in columns), None)
    if image is None:
        held = clean(", ".join(columns))[:80]
        raise UserError(f"{path.name}: no column named image; it holds {held or 'nothing'}")
    sources = []
    for number, row in rows:
        cells = {name: (row.get(columns[name]) or "").strip() for name in COLUMNS if name in columns}
        text = (row.get(image) or "").strip()
        if not text:
            raise UserError(f"{path.name}: line {number} has no image")
        label, name = cells.get("label") or None, cells.get("id") or None
        source = listed_source(path.parent, text, label, name, cells.get("split"))
        sources.append(replace(source, patient=cells.get("patient", "")))
    if not sources:
        raise UserError(f"{path.name}: lists no scans")
    return Found(without_duplicates(sources), layout="CSV of paths")
