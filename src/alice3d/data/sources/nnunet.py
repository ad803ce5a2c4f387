"""nnU-Net's raw data: imagesTr, imagesTs and their labels, channels of a case, and names in dataset.json."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alice3d.data.sources.channels import one_channel
from alice3d.data.sources.declared import settled
from alice3d.data.sources.labels import without_scan
from alice3d.data.sources.listed import exists, inside
from alice3d.data.sources.sources import Found, Source, searched, without_duplicates
from alice3d.errors import UserError
from alice3d.io.folders import clean, shown
from alice3d.io.read import case_id, is_data_file, reader_of

CHANNEL = re.compile(r"_(\d{4})$")
PARTS = {"Tr": "train", "Va": "val", "Val": "val", "Ts": "test"}
"""End of the folders' names (imagesTr, labelsTr) to split."""


def is_nnunet(folder: Path, content: Mapping[str, Any]) -> bool:
    """Whether the files of imagesTr have channel suffixes; nnU-Net's first version lists them without, like the
    Decathlon."""
    if not (folder / "imagesTr").is_dir():
        return False
    if "training" not in content:
        return True
    entries = content["training"] if isinstance(content["training"], list) else []
    images = [str(entry.get("image")) if isinstance(entry, dict) else str(entry) for entry in entries]
    if not images or any(path is not None and exists(path) for path in (inside(folder, text) for text in images)):
        return False
    return any(CHANNEL.search(case_id(path)) for path in image_files(folder / "imagesTr", folder)[0])


@dataclass(frozen=True)
class _Part:
    """The scans and labels of imagesTr, imagesVa or imagesTs."""

    split: str
    images: list[Path]
    labels: list[Path]


def nnunet(folder: Path, content: Mapping[str, Any], channel: str | None) -> Found:
    """imagesTr/case_0000.nii.gz, labelsTr/case.nii.gz, and the same with Va and Ts.

    Raises:
        UserError: no scan there.
    """
    warnings: list[str] = []
    parts = []
    for tail, split in PARTS.items():
        labels, unreadable = image_files(folder / f"labels{tail}", folder)
        images, more_unreadable = image_files(folder / f"images{tail}", folder)
        warnings += [*unreadable, *more_unreadable]
        parts.append(_Part(split, images, labels))
    numbered = not _are_channels(parts, content)
    said = channel_names(content)
    sources = []
    for part in parts:
        labels_of, cases = defaultdict[str, list[Path]](list), defaultdict[str, dict[str, list[Path]]](dict)
        for path in part.labels:
            labels_of[case_id(path)].append(path)
        for path in part.images:
            name, number = _case_and_channel(case_id(path), numbered, labels_of)
            cases[name].setdefault(number, []).append(path)
        for name, channels in cases.items():
            mine = labels_of.pop(name, [])
            fault, paths = one_channel(channels, channel, said)
            if len(mine) > 1 and not fault:
                fault = f"duplicate label: {' and '.join(shown(path, folder) for path in mine[:2])}; remove one"
            label, label_name = (mine[0], shown(mine[0], folder)) if mine else (None, "")
            for path in paths:  # several of one name are each refused as duplicates
                source = Source(clean(name), path, shown(path, folder), None, label, label_name, None, fault)
                sources.append((source, part.split))
        warnings += without_scan([clean(name) for name in labels_of])
    if not sources:
        raise UserError(f"{folder}: imagesTr holds no scans")
    with_splits, more = settled(sources)
    return Found(without_duplicates(with_splits), {}, [*warnings, *more], layout="nnU-Net (imagesTr, labelsTr)")


def _case_and_channel(name: str, numbered: bool, labels: Mapping[str, Any]) -> tuple[str, str]:
    """`liver_1_0000` to liver_1 and 0000; whole where a label has that name, or where numbers are those of cases."""
    match = CHANNEL.search(name)
    if match is None or name in labels or (numbered and name[: match.start()] not in labels):
        return name, "0000"
    return name[: match.start()], match.group(1)


def _are_channels(parts: Iterable[_Part], content: Mapping[str, Any]) -> bool:
    """Whether the four digits at the end of names are channels, and not numbers of cases (`amos_0001`)."""
    names = [case_id(path) for part in parts for path in part.images]
    labels = {case_id(path) for part in parts for path in part.labels}
    whole = sum(name in labels for name in names)
    cut = sum(bool(match) and name[: match.start()] in labels for name in names if (match := CHANNEL.search(name)))
    if whole or cut:
        return cut >= whole
    if "channel_names" in content or "modality" in content:
        return True
    numbers: dict[str, list[int]] = defaultdict(list)
    for name in names:
        if match := CHANNEL.search(name):
            numbers[name[: match.start()]].append(int(match.group(1)))
    return all(sorted(set(its)) == list(range(len(set(its)))) for its in numbers.values())


def channel_names(content: Mapping[str, Any]) -> dict[str, str]:
    """Number of each channel, `0000`, to the name that dataset.json gives it."""
    said = content.get("channel_names", content.get("modality"))
    if not isinstance(said, dict):
        return {}
    return {f"{int(key):04d}": str(name) for key, name in said.items() if str(key).isdigit()}


def image_files(folder: Path, root: Path) -> tuple[list[Path], list[str]]:
    """Scans under a folder, which may be missing, and a warning where folders in it cannot be read."""
    files, unreadable = searched(folder, root) if folder.is_dir() else ([], [])
    kept = [(path, extension) for path in files if (extension := reader_of(path)) is not None]
    return [path for path, extension in kept if not is_data_file(path, extension)], unreadable
