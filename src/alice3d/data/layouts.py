"""Recognises how a data set is laid out: nnU-Net, Medical Segmentation Decathlon, a CSV of paths, or plain folders."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from alice3d.data.dicom_labels import numbered, read_object
from alice3d.data.index import clean
from alice3d.data.labels import checked_names
from alice3d.data.read import case_id, ending_of
from alice3d.data.scan import ScanError
from alice3d.data.sources import Found, Source, plain_sources, shown, with_labels, without_duplicates
from alice3d.data.walk import walk
from alice3d.errors import UserError

DATASET = "dataset.json"
IMAGE_COLUMNS = ("image", "scan", "path", "file")
CHANNEL = re.compile(r"_(\d{4})$")
OUTSIDE = "path leaves its folder: give paths inside the folder of the file that lists them"


def find_sources(scans: Path, labels: Path | None, channel: int | None = None) -> Found:
    """Every scan that the user means, with labels.

    Args:
        scans: a folder, one scan, a CSV of paths, or a dataset.json.
        labels: folder of label maps named like their scans, in place of what the layout says.
        channel: which of several channels a case (`_0000`, `_0001`) is taken; None refuses such cases.

    Raises:
        UserError: nothing there, or no scan in it.
    """
    if not scans.exists():
        raise UserError(f"{scans}: no such file or folder")
    if labels is not None and not labels.is_dir():
        raise UserError(f"{labels}: no such folder of labels")
    folder = scans.parent if scans.name == DATASET else scans
    if scans.suffix.lower() == ".csv":
        found = _csv(scans)
    elif (folder / DATASET).is_file() and "training" in (content := _json(folder / DATASET)):
        found = _decathlon(folder, content)
    elif (folder / "imagesTr").is_dir():
        found = _nnunet(folder, channel)
    elif labels is None and (folder / "images").is_dir() and (folder / "labels").is_dir():
        found, labels = plain_sources(folder / "images"), folder / "labels"
    else:
        found = plain_sources(scans, skip=labels)
    return _with_structures(with_labels(found, labels) if labels is not None else found)


def _with_structures(found: Found) -> Found:
    """Number the structures of DICOM label objects over all cases, where the layout does not declare values."""
    objects = []
    for source in found.sources:
        if source.label is not None and ending_of(source.label) is None:
            with contextlib.suppress(ScanError, OSError):  # refused with a reason when its case is prepared
                objects.append(read_object(source.label))
    return replace(found, structures=numbered(one for one in objects if one is not None))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name}: no valid JSON ({type(error).__name__})") from None
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
    path = Path(os.path.normpath(root / text.strip().replace("\0", "")))
    return path if path.is_relative_to(os.path.normpath(root)) else None


def _nnunet(folder: Path, channel: int | None) -> Found:
    """imagesTr/case_0000.nii.gz, labelsTr/case.nii.gz, and the same with Ts."""
    content = _json(folder / DATASET) if (folder / DATASET).is_file() else {}
    names, warnings = _names(content)
    sources = []
    for tail in ("Tr", "Ts"):
        labels = {case_id(path): path for path in _files(folder / f"labels{tail}")}
        cases: dict[str, dict[str, Path]] = defaultdict(dict)
        for path in _files(folder / f"images{tail}"):
            match = CHANNEL.search(case_id(path))
            name = case_id(path)[: match.start()] if match else case_id(path)
            cases[name][match.group(1) if match else "0000"] = path
        for name, channels in cases.items():
            label = labels.get(name)
            fault, path = _one_channel(channels, channel)
            split = "test" if tail == "Ts" and label is not None else None
            label_name = shown(label, folder) if label else ""
            sources.append(Source(clean(name), path, shown(path, folder), None, label, label_name, split, fault))
    if not sources:
        raise UserError(f"{folder}: imagesTr holds no scans")
    return Found(without_duplicates(sources), names, warnings)


def _one_channel(channels: dict[str, Path], channel: int | None) -> tuple[str, Path]:
    """The chosen channel's file, and a fault where it is not clear which one is meant."""
    first = channels[min(channels)]
    if channel is not None:
        wanted = f"{channel:04d}"
        if wanted in channels:
            return "", channels[wanted]
        return f"no channel {wanted}: the case holds {', '.join(sorted(channels))}", first
    if len(channels) > 1:
        return f"several channels: the case holds {', '.join(sorted(channels))}; choose one by --channel", first
    return "", first


def _files(folder: Path) -> list[Path]:
    return [path for path in walk(folder) if ending_of(path) is not None] if folder.is_dir() else []


def _decathlon(folder: Path, content: dict[str, Any]) -> Found:
    """The lists `training` and `test` of a Medical Segmentation Decathlon dataset.json."""
    names, warnings = _names(content)
    sources = []
    for part in ("training", "test"):
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
        raise UserError(f"{path.name}: no valid CSV in UTF-8 ({type(error).__name__})") from None
    sources = []
    for number, row in enumerate(rows, start=2):
        cells = {name: (row.get(column) or "").strip() for name, column in columns.items()}
        text = (row.get(image) or "").strip()
        if not text:
            raise UserError(f"{path.name}: line {number} names no image")
        split = cells["split"] if "split" in columns else None
        sources.append(_listed(path.parent, text, cells.get("label") or None, cells.get("id") or None, split))
    if not sources:
        raise UserError(f"{path.name}: lists no scans")
    return Found(without_duplicates(sources))


def _listed(root: Path, image: str, label: str | None, name: str | None, split: str | None) -> Source:
    """The source of one line of a list."""
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
    except OSError:  # a name too long, a loop of links
        return False
