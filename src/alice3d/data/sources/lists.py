"""Lists of cases in a JSON file: those of the Decathlon and MONAI, and nnU-Net's `dataset`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from alice3d.data.sources.channels import one_channel
from alice3d.data.sources.declared import settled
from alice3d.data.sources.listed import listed_source
from alice3d.data.sources.nnunet import channel_names
from alice3d.data.sources.sources import Found, Source, without_duplicates
from alice3d.errors import UserError
from alice3d.io.folders import clean

LISTS = {
    "training": "list of {image, label} or of image, paths inside the folder; `train` is the same",
    "validation": "the same, of the split val; `val` and `valid` are the same",
    "test": "the same, of the split test, with labels or without; `testing` is the same",
}
"""Lists of a dataset.json, and what they hold."""
SPLITS = {
    **dict.fromkeys(("training", "train"), "train"),
    **dict.fromkeys(("validation", "val", "valid"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
DATASET = "dataset"


def has_lists(content: Mapping[str, Any]) -> bool:
    """Whether a file lists cases."""
    return any(isinstance(content.get(name), list) for name in SPLITS) or "training" in content


def _outside(where: str) -> str:
    return f"path leaves its folder: give paths inside the folder of {where}, the file that lists them"


def decathlon(folder: Path, content: Mapping[str, Any], where: str, channel: str | None) -> Found:
    """The lists `training`, `validation` and `test` of a file of the Decathlon or of MONAI.

    Args:
        folder: of the file.
        content: of the file.
        where: its name.
        channel: which of several images of an entry is used.

    Raises:
        UserError: an entry that is no image, or no list of scans.
    """
    parts: list[tuple[Source, str]] = []
    for part, split in SPLITS.items():
        entries = content.get(part)
        for entry in entries if isinstance(entries, list) else []:
            pair = entry if isinstance(entry, dict) else {"image": entry}
            image, label = pair.get("image"), pair.get("label")
            given = image if isinstance(image, list) else [image]
            images = [one for one in given if isinstance(one, str)]
            if not images or len(images) < len(given) or not (label is None or isinstance(label, str)):
                raise UserError(f"{where}: {part} holds {clean(str(entry))[:60]}, expected image and label paths")
            parts.append((_of_channel(folder, images, label or None, None, where, channel, content), split))
    if not parts:
        raise UserError(f"{where}: training, validation and test list no scans")
    strange = sorted(name for name, value in content.items() if name not in SPLITS and _lists_images(value))
    warnings = [
        f"{where}: the list {clean(name)[:30]!r} is not read; training, validation and test are" for name in strange
    ]
    sources, more = settled(parts)
    return Found(without_duplicates(sources), {}, [*warnings, *more], layout=f"lists of {where} (Decathlon, MONAI)")


def _lists_images(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "image" in value[0]


def nnunet_dataset(folder: Path, content: Mapping[str, Any], where: str, channel: str | None) -> Found:
    """The cases under nnU-Net's key `dataset`: id to {images, label}.

    Raises:
        UserError: an entry of another form.
    """
    sources = []
    for name, entry in content[DATASET].items():
        images = entry.get("images") if isinstance(entry, dict) else None
        label = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not images or not all(isinstance(one, str) for one in images):
            raise UserError(f"{where}: dataset holds no images of {clean(str(name))[:40]!r}")
        if not (label is None or isinstance(label, str)):
            raise UserError(f"{where}: the label of {clean(str(name))[:40]!r} is no path")
        sources.append(_of_channel(folder, images, label or None, str(name), where, channel, content))
    if not sources:
        raise UserError(f"{where}: dataset lists no scans")
    return Found(without_duplicates(sources), layout=f"nnU-Net (dataset in {where})")


def _of_channel(
    folder: Path,
    images: list[str],
    label: str | None,
    name: str | None,
    where: str,
    channel: str | None,
    content: Mapping[str, Any],
) -> Source:
    """The source of an entry with one image or several channels."""
    channels = {f"{number:04d}": [Path(text)] for number, text in enumerate(images)}
    chosen, fault = images[0], ""
    if len(images) > 1:
        fault, paths = one_channel(channels, channel, channel_names(content))
        chosen = images[next(n for n in range(len(images)) if channels[f"{n:04d}"] is paths)]
    source = listed_source(folder, chosen, label, name, None, _outside(where))
    return replace(source, fault=fault) if fault else source
