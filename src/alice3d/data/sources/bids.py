"""BIDS folders: scans of `sub-*`, and the segmentations (`_dseg`) of raw data and derivatives."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from alice3d.data.sources.channels import sequence_of
from alice3d.data.sources.sources import Claimed, Source
from alice3d.data.tables.csv_rows import read_rows
from alice3d.errors import UserError
from alice3d.io.folders import clean, shown
from alice3d.io.read import case_id

NAME = re.compile(r"sub-[A-Za-z0-9+]+(?:_[A-Za-z]+-[A-Za-z0-9+.]+)*(?:_[A-Za-z0-9]+)+")
DERIVATIVES = "derivatives"
OF_LABEL = {"space", "desc", "seg", "res", "den", "label", "atlas", "hemi", "from", "to", "mode", "cohort", "template"}
"""Entities that a derivative adds to those of its scan."""
NO_SCAN = {
    "probseg": "probabilities of a segmentation",
    "mask": "a mask",
    "defacemask": "a mask",
    "xfm": "a transform",
    "warp": "a transform",
    "bold": "a time series",
    "sbref": "a reference of a time series",
    "dwi": "a diffusion series",
    "asl": "a perfusion series",
    "epi": "a field map",
    "fieldmap": "a field map",
    "magnitude": "a field map",
    "magnitude1": "a field map",
    "magnitude2": "a field map",
    "phase1": "a field map",
    "phase2": "a field map",
    "phasediff": "a field map",
}
"""Suffixes of files that are neither scan nor label map."""


def _parts(name: str) -> tuple[dict[str, str], list[str]]:
    """Entities and suffixes of a name: `sub-1_run-2_T1w` has sub and run, and T1w."""
    words = name.split("_")
    entities = dict(word.split("-", 1) for word in words if "-" in word)
    return entities, [word for word in words if "-" not in word]


def claim_bids(files: Iterable[Path], root: Path, channel: str | None) -> Claimed:
    """Scans of a BIDS folder, each with the one `_dseg` of its subject, session and other entities.

    Derivatives give label maps alone: their images are copies of scans. `--channel T1w` takes one kind of scan.
    """
    made = Claimed()
    labels, scans, images = [], [], []
    for path in files:
        name = case_id(path)
        if not NAME.fullmatch(name):
            continue
        _, suffixes = _parts(name)
        derived = DERIVATIVES in path.relative_to(root).parts
        if suffixes[-1].lower() in ("dseg", "seg"):
            labels.append(path)
        elif suffixes[-1] in NO_SCAN:
            made.left_out[path] = NO_SCAN[suffixes[-1]]
        elif derived:
            images.append(path)
        elif channel is not None and not _is_kind(suffixes[-1], channel):
            made.left_out[path] = f"a {suffixes[-1]}, --channel asks for {channel}"
        else:
            scans.append(path)
    if not scans:  # derivatives alone
        scans, images = images, []
    if not scans:
        return Claimed()
    made.layout = "BIDS"
    made.left_out |= dict.fromkeys(images, "a derivative of a scan")
    label_of = _pair(labels, scans, made)
    for path in scans:
        mine = label_of.get(path, [])
        fault = ""
        if len(mine) > 1:
            some = " and ".join(shown(label, root) for label in mine[:2])
            fault = f"several labels: {some}; give the folder of one by --labels, or name it in a CSV"
        made.sources.append(
            Source(
                id=clean(case_id(path)),
                path=path,
                name=shown(path, root),
                label=mine[0] if mine else None,
                label_name=shown(mine[0], root) if mine else "",
                fault=fault,
                patient=_parts(case_id(path))[0]["sub"],
            )
        )
        made.more |= set(mine)
    made.label_names, warnings = _names(root, [label for mine in label_of.values() for label in mine])
    made.warnings += warnings
    return made


def _is_kind(suffix: str, channel: str) -> bool:
    same = sequence_of(suffix)
    return suffix.lower() == channel.lower() or bool(same and same == sequence_of(channel))


def _pair(labels: list[Path], scans: list[Path], made: Claimed) -> dict[Path, list[Path]]:
    """Label maps of each scan; those of no scan, or of several, are left out."""
    about = {path: _parts(case_id(path)) for path in scans}
    by_subject: dict[str, list[Path]] = defaultdict(list)
    for path, (entities, _) in about.items():
        by_subject[entities["sub"]].append(path)
    found: dict[Path, list[Path]] = defaultdict(list)
    unclear = 0
    for label in labels:
        entities, suffixes = _parts(case_id(label))
        kept = {name: value for name, value in entities.items() if name not in OF_LABEL}
        hints = [*suffixes[:-1], entities.get("space", "")]
        mine = [path for path in by_subject[entities["sub"]] if kept.items() <= about[path][0].items()]
        exact = [path for path in mine if kept.items() == _of_scan(about[path][0]).items()]
        mine = exact or mine
        mine = [path for path in mine if about[path][1][-1] in hints] or mine
        if len(mine) == 1:
            found[mine[0]].append(label)
        else:
            unclear += bool(mine)
            made.left_out[label] = "a label map of no scan" if not mine else f"a label map of one of {len(mine)} scans"
    if unclear:
        made.warnings.append(
            f"{unclear} label maps could be of several scans of their subject and are left out; --channel chooses the "
            "kind of scan, such as T1w"
        )
    return found


def _of_scan(entities: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in entities.items() if name not in OF_LABEL}


def _names(root: Path, labels: list[Path]) -> tuple[dict[int, str], list[str]]:
    """Names of label values, from the `_dseg.tsv` tables beside the label maps or above them; and warnings."""
    tables: dict[Path, None] = {}
    for label in labels:
        own = label.parent / f"{case_id(label)}.tsv"
        for place in (label.parent, *label.parent.parents):
            tables |= dict.fromkeys(path for path in sorted(place.glob("*dseg.tsv")) if _fits(path, own))
            if place == root:
                break
    names: dict[int, str] = {}
    for table in tables:
        try:
            columns, rows = read_rows(table)
        except UserError as error:
            return {}, [f"{shown(table, root)} is not read: {error}"]
        if "index" not in columns or "name" not in columns:
            continue
        for _, row in rows:
            value, name = (row["index"] or "").strip(), (row["name"] or "").strip()
            if not value.isdigit() or not int(value) or not name:
                continue
            if names.setdefault(int(value), name) != name:
                return {}, [
                    f"{shown(table, root)}: gives value {value} another name; the values are left without names"
                ]
    if len(set(names.values())) < len(names):
        return {}, ["the _dseg.tsv tables give two values one name; the values are left without names"]
    return dict(sorted(names.items())), []


def _fits(table: Path, label: Path) -> bool:
    """Whether a table is of a label map: its entities are some of the label map's."""
    words = set(table.name.removesuffix(".tsv").split("_"))
    return words <= set(label.name.removesuffix(".tsv").split("_"))
