"""Recognises the layout of a data set: nnU-Net, Medical Segmentation Decathlon, a CSV of paths, or plain folders."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from alice3d.data.sources.sources import (
    Found,
    Source,
    plain_sources,
    searched,
    with_labels,
    without_duplicates,
    without_scan,
)
from alice3d.data.tables.label_names import checked_names
from alice3d.errors import UserError
from alice3d.io.folders import clean, shown
from alice3d.io.label_files import structures_of
from alice3d.io.read import case_id, is_data_file, reader_of
from alice3d.io.structures import few, numbered
from alice3d.io.volume import ScanError

DATASET = "dataset.json"
IMAGE_COLUMNS = ("image", "scan", "path", "file")
CHANNEL = re.compile(r"_(\d{4})$")
COLUMNS = {
    "image": "path of a scan, inside the folder of the table; the column may also be called scan, path or file",
    "label": "path of its label map; may be empty",
    "id": "case id; left out or empty, the file's name without extension",
    "split": "its split; the column left out, as `--splits` or a draw says; empty, in none",
}
"""Columns of a table of scans, and what they hold; image is needed."""
LISTS = {
    "training": "list of {image, label} or of image, paths inside the folder",
    "test": "the same",
}
"""Lists of a dataset.json, and what they hold."""
OUTSIDE = "path leaves its folder: give paths inside the folder of the file that lists them"


def find_sources(scans: Path, labels: Path | None, channel: int | None = None) -> Found:
    """Every scan that the user means, with labels.

    Args:
        scans: a folder, one scan, a CSV of paths, or a dataset.json.
        labels: folder of label maps named like their scans, instead of those of the layout.
        channel: which of several channels of a case (`_0000`, `_0001`) is used; None refuses such cases.

    Raises:
        UserError: nothing there, or no scan in it.
    """
    try:
        if not scans.exists():
            raise UserError(f"{scans}: no such file or folder")
        if labels is not None and not labels.is_dir():
            raise UserError(f"{labels}: no such folder of labels")
        return _by_layout(scans, labels, channel)
    except OSError as error:  # a folder that cannot be read
        raise UserError(f"{scans}: cannot be read ({error.strerror or type(error).__name__})") from None


def _by_layout(scans: Path, labels: Path | None, channel: int | None) -> Found:
    folder = scans.parent if scans.name == DATASET else scans
    content = _json(folder / DATASET) if scans.suffix.lower() != ".csv" and (folder / DATASET).is_file() else {}
    nnunet = scans.suffix.lower() != ".csv" and _is_nnunet(folder, content)
    if scans.suffix.lower() == ".csv":
        found = _csv(scans)
    elif nnunet:
        found = _nnunet(folder, content, channel)
    elif "training" in content:
        found = _decathlon(folder, content)
    elif labels is None and (folder / "images").is_dir() and (folder / "labels").is_dir():
        found, labels = plain_sources(folder / "images"), folder / "labels"
    else:
        found = plain_sources(scans, skip=labels)
    if channel is not None and not nnunet:
        ignored = "channel: is ignored, only cases of an nnU-Net folder (imagesTr) have channels"
        found = replace(found, warnings=[ignored, *found.warnings])
    return with_structures(with_labels(found, labels) if labels is not None else found)


def with_structures(found: Found) -> Found:
    """Number the structures of label files that name them over all cases, where the layout does not declare values."""
    named = []
    for source in found.sources:
        for path in source.label_files:
            with contextlib.suppress(ScanError, OSError):  # refused with a reason when its case is prepared
                named.append(structures_of(path))
    structures = numbered(named)
    alike = Counter(name.casefold() for name in structures.values())
    twice = [name for name in structures.values() if alike[name.casefold()] > 1]
    warning = f"structures whose names differ in case alone count as different ones: {few(twice)}"
    return replace(found, structures=structures, warnings=[*found.warnings, *([warning] if twice else [])])


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name}: not valid JSON ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path.name}: must hold a mapping")
    return content


def _names(content: dict[str, Any]) -> tuple[dict[int, str], list[str]]:
    """Label names of a dataset.json; regions of several labels are left out with a warning."""
    labels = content.get("labels")
    if not isinstance(labels, dict):
        return {}, []
    plain = {key: value for key, value in labels.items() if not isinstance(value, list)}
    warnings = [f"{DATASET}: regions of several labels are left out"] if len(plain) < len(labels) else []
    if len(plain) < len(labels):
        return {}, [*warnings, f"{DATASET}: label names are not checked"]
    return checked_names(plain, DATASET), warnings


def inside(root: Path, text: str) -> Path | None:
    """A path that a file lists, made absolute; None where it leaves the file's folder."""
    top = os.path.abspath(root)  # in a relative root, `..` would be treated as a folder name
    path = Path(os.path.normpath(Path(top, text.strip().replace("\0", ""))))
    return path if path.is_relative_to(top) else None


def _is_nnunet(folder: Path, content: dict[str, Any]) -> bool:
    """Whether the files of imagesTr have channel suffixes; nnU-Net's first version lists them without, like the
    Decathlon."""
    if not (folder / "imagesTr").is_dir():
        return False
    if "training" not in content:
        return True
    entries = content["training"] if isinstance(content["training"], list) else []
    images = [str(entry.get("image")) if isinstance(entry, dict) else str(entry) for entry in entries]
    if not images or any(path is not None and _exists(path) for path in (inside(folder, text) for text in images)):
        return False
    return any(CHANNEL.search(case_id(path)) for path in _files(folder / "imagesTr", folder)[0])


def _nnunet(folder: Path, content: dict[str, Any], channel: int | None) -> Found:
    """imagesTr/case_0000.nii.gz, labelsTr/case.nii.gz, and the same with Ts."""
    names, warnings = _names(content)
    sources = []
    for tail in ("Tr", "Ts"):
        labels, cases = defaultdict[str, list[Path]](list), defaultdict[str, dict[str, list[Path]]](dict)
        label_files, unreadable = _files(folder / f"labels{tail}", folder)
        image_files, more_unreadable = _files(folder / f"images{tail}", folder)
        for path in label_files:
            labels[case_id(path)].append(path)
        for path in image_files:
            match = CHANNEL.search(case_id(path))
            name = case_id(path)[: match.start()] if match else case_id(path)
            cases[name].setdefault(match.group(1) if match else "0000", []).append(path)
        for name, channels in cases.items():
            mine = labels.pop(name, [])
            fault, paths = _one_channel(channels, channel)
            if len(mine) > 1 and not fault:
                fault = f"duplicate label: {' and '.join(shown(path, folder) for path in mine[:2])}; remove one"
            split = "test" if tail == "Ts" and mine else None
            label, label_name = (mine[0], shown(mine[0], folder)) if mine else (None, "")
            for path in paths:  # several of one name are each refused as duplicates
                sources.append(Source(clean(name), path, shown(path, folder), None, label, label_name, split, fault))
        warnings += [*unreadable, *more_unreadable, *without_scan([clean(name) for name in labels])]
    if not sources:
        raise UserError(f"{folder}: imagesTr holds no scans")
    return Found(without_duplicates(sources), names, warnings)


def _one_channel(channels: dict[str, list[Path]], channel: int | None) -> tuple[str, list[Path]]:
    """Files of the chosen channel, and a fault where it is not clear which one is meant."""
    first = channels[min(channels)]
    if channel is not None:
        wanted = f"{channel:04d}"
        if wanted in channels:
            return "", channels[wanted]
        return f"no channel {wanted}: the case holds {', '.join(sorted(channels))}", first
    if len(channels) > 1:
        return f"several channels: the case holds {', '.join(sorted(channels))}; choose one by --channel", first
    return "", first


def _files(folder: Path, root: Path) -> tuple[list[Path], list[str]]:
    """Scans under a folder, which may be missing, and a warning where folders in it cannot be read."""
    files, unreadable = searched(folder, root) if folder.is_dir() else ([], [])
    kept = [(path, extension) for path in files if (extension := reader_of(path)) is not None]
    return [path for path, extension in kept if not is_data_file(path, extension)], unreadable


def _decathlon(folder: Path, content: dict[str, Any]) -> Found:
    """The lists `training` and `test` of a Medical Segmentation Decathlon dataset.json."""
    names, warnings = _names(content)
    sources = []
    for part in LISTS:
        entries = content.get(part)
        for entry in entries if isinstance(entries, list) else []:
            pair = entry if isinstance(entry, dict) else {"image": entry}
            image, label = pair.get("image"), pair.get("label")
            if not isinstance(image, str) or not (label is None or isinstance(label, str)):
                raise UserError(f"{DATASET}: {part} holds {clean(str(entry))[:60]}, expected image and label paths")
            sources.append(_listed(folder, image, label, None, None))
    if not sources:
        raise UserError(f"{DATASET}: training and test list no scans")
    return Found(without_duplicates(sources), names, warnings)


def _csv(path: Path) -> Found:
    """A table with the columns image, and optionally label, id and split."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="strict") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = {str(name).strip().lower(): name for name in reader.fieldnames or ()}
            image = next((columns[name] for name in IMAGE_COLUMNS if name in columns), None)
            if image is None:
                held = clean(", ".join(columns))[:80]
                raise UserError(f"{path.name}: no column named image; it holds {held or 'nothing'}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path.name}: not a valid CSV file in UTF-8 ({type(error).__name__})") from None
    sources = []
    for number, row in enumerate(rows, start=2):
        cells = {name: (row.get(columns[name]) or "").strip() for name in COLUMNS if name in columns}
        text = (row.get(image) or "").strip()
        if not text:
            raise UserError(f"{path.name}: line {number} has no image")
        label, name = cells.get("label") or None, cells.get("id") or None
        sources.append(_listed(path.parent, text, label, name, cells.get("split")))
    if not sources:
        raise UserError(f"{path.name}: lists no scans")
    return Found(without_duplicates(sources))


def _listed(root: Path, image: str, label: str | None, name: str | None, split: str | None) -> Source:
    """The source of one line of a list."""
    root = Path(os.path.abspath(root))
    path, fault = inside(root, image), ""
    label_path = inside(root, label) if label is not None else None
    if path is None or (label is not None and label_path is None):
        path, label_path, fault = root / Path(image).name, None, OUTSIDE
    source = Source(
        id=clean(name if name is not None else case_id(path)),
        path=path,
        name=shown(path, root),
        label=label_path,
        label_name=shown(label_path, root) if label_path is not None else "",
        split=split,
        fault=fault,
    )
    return replace(source, fault="no such file") if not fault and not _exists(path) else source


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long, a loop of symbolic links
        return False
