"""One folder a case, with files of fixed names: TotalSegmentator, KiTS, and folders like them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from alice3d.data.sources.sources import Claimed, Source
from alice3d.data.tables.csv_rows import read_rows
from alice3d.errors import UserError
from alice3d.io.folders import clean, shown
from alice3d.io.read import case_id

SCANS = ("ct", "mri", "mr", "imaging", "image", "img", "scan", "volume")
"""Names of the scan in its case's folder."""
LABELS = ("segmentation", "aggregated_maj_seg", "seg", "label", "labels", "mask", "gt")
"""Names of its label map; an earlier one wins."""
MASKS = ("segmentations", "structures")
"""Names of the folder of its binary masks, each named after its structure."""
AGGREGATED = ("aggregated_and_seg", "aggregated_or_seg", "combined_labels")
INSTANCES = "instances"
META = "meta.csv"
SPLITS = {"train": "train", "val": "val", "test": "test"}


def claim_case_folders(files: Iterable[Path], root: Path) -> Claimed:
    """Scans named `ct`, `imaging` or alike, with the label map or the folder of masks beside them.

    Nothing is taken where no scan has a label: such a folder is a plain one.
    """
    by_folder: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in files:
        by_folder[path.parent][case_id(path).lower()].append(path)
    masks = {folder.parent: folder for folder in by_folder if folder.name.lower() in MASKS}
    scans, label_of = [], {}
    for folder, names in by_folder.items():
        found = [path for name in SCANS for path in names.get(name, [])]
        if not found or folder in masks.values():
            continue
        label = next((names[name][0] for name in LABELS if name in names), None) or masks.get(folder)
        scans += found
        if label is not None:
            label_of[found[0]] = label
    if not label_of:
        return Claimed()
    known = {case_id(path).lower() for path in label_of}
    scans = [path for path in scans if case_id(path).lower() in known and path.parent not in _inner(masks)]
    split_of, warnings = _splits(root)
    made = Claimed(layout=_name(label_of), warnings=warnings)
    ids = _ids(scans, root)
    for path in scans:
        label = label_of.get(path)
        made.sources.append(
            Source(
                id=clean(ids[path]),
                path=path,
                name=shown(path, root),
                label=label,
                label_name=shown(label, root) if label is not None else "",
                split=split_of.get(path.parent.name),
                patient=path.parent.name if path.parent != root else "",
            )
        )
    _leave_out(made, by_folder, label_of)
    return made


def _inner(masks: dict[Path, Path]) -> set[Path]:
    return set(masks.values())


def _name(label_of: dict[Path, Path]) -> str:
    """The data set whose layout it is."""
    folders = sum(label.name.lower() in MASKS for label in label_of.values())
    if folders * 2 > len(label_of):
        return "TotalSegmentator (a folder of masks a case)"
    if any(case_id(path).lower() == "imaging" for path in label_of):
        return "KiTS (imaging and segmentation in one folder a case)"
    return "one folder a case"


def _ids(scans: list[Path], root: Path) -> dict[Path, str]:
    """The folder's name; its path where two have one name, and the file's name behind it where one folder has two."""
    folders = Counter(path.parent.name.casefold() for path in {path.parent: path for path in scans}.values())
    a_folder = Counter(path.parent for path in scans)
    names = {}
    for path in scans:
        if path.parent == root:
            names[path] = case_id(path)
            continue
        name = path.parent.name
        if folders[name.casefold()] > 1:
            name = "_".join(path.parent.relative_to(root).parts)
        names[path] = f"{name}_{case_id(path)}" if a_folder[path.parent] > 1 else name
    return names


def _leave_out(made: Claimed, by_folder: dict[Path, dict[str, list[Path]]], label_of: dict[Path, Path]) -> None:
    """What else is known to be no scan: single annotations of KiTS, and label maps beside a better one."""
    cases = {source.path.parent for source in made.sources}
    chosen = set(label_of.values())
    for folder, names in by_folder.items():
        if folder.name.lower() == INSTANCES and folder.parent in cases:
            for paths in names.values():
                made.left_out |= dict.fromkeys(paths, "a single annotation, not the case's segmentation")
        if folder in cases:
            spare = [path for name in (*LABELS, *AGGREGATED) for path in names.get(name, []) if path not in chosen]
            made.left_out |= dict.fromkeys(spare, "another label map of its case")
        if folder.name.lower() in MASKS and folder.parent in cases and folder not in chosen:
            spare = [path for paths in names.values() for path in paths]
            made.left_out |= dict.fromkeys(spare, "another label of its case")


def _splits(root: Path) -> tuple[dict[str, str], list[str]]:
    """Splits that TotalSegmentator's meta.csv declares, by the name of the case's folder; and warnings."""
    if not (root / META).is_file():
        return {}, []
    try:
        columns, rows = read_rows(root / META)
    except UserError as error:
        return {}, [f"{META} is not read: {error}"]
    if "image_id" not in columns or "split" not in columns:
        return {}, []
    named = {(row["image_id"] or "").strip(): (row["split"] or "").strip().lower() for _, row in rows}
    return {name: SPLITS[split] for name, split in named.items() if split in SPLITS}, []
