"""A label map beside its scan, told by its name: LiTS, BraTS, and `case` with `case_seg`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from alice3d.data.sources.channels import one_channel, sequence_of
from alice3d.data.sources.declared import settled
from alice3d.data.sources.sources import Claimed, Source
from alice3d.io.folders import clean, shown
from alice3d.io.read import case_id

VOLUME = re.compile(r"(test-)?volume[-_](\d+)", re.IGNORECASE)
VOLUME_LABEL = re.compile(r"(?:segmentation|labels?)[-_](\d+)", re.IGNORECASE)
LABEL = re.compile(r"(.+)[-_.](?:dseg|seg|segmentation|labels?|labelmap|mask|gt)", re.IGNORECASE)
SEQUENCE = re.compile(r"(.+)[-_]([A-Za-z0-9]+)")
BRATS_PATIENT = re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d{3}")
OTHER_SEQUENCE = "another sequence of its case; --channel chooses one"
MANY = 4
"""Where no case has a label, files are sequences of one case from this number on."""


def claim_lits(files: Iterable[Path], root: Path) -> Claimed:
    """`volume-N` with `segmentation-N` (or CT-ORG's `labels-N`), in one folder or in two; `test-volume-N` is a test
    case."""
    labels: dict[str, list[Path]] = defaultdict(list)
    scans = []
    for path in files:
        if match := VOLUME_LABEL.fullmatch(case_id(path)):
            labels[match[1]].append(path)
        elif match := VOLUME.fullmatch(case_id(path)):
            scans.append((path, match[2], "test" if match[1] else "train"))
    if not any(split == "train" and number in labels for _, number, split in scans):
        return Claimed()
    made = Claimed(layout="LiTS (volume-N with segmentation-N)")
    parts = []
    for path, number, split in scans:
        mine = labels.get(number, []) if split == "train" else []
        beside = [label for label in mine if label.parent == path.parent] or mine
        source = _pair(path, case_id(path), beside, root)
        parts.append((source, split))
        made.more |= set(beside)
    made.sources, made.warnings = settled(parts)
    return made


def _pair(path: Path, name: str, labels: list[Path], root: Path, patient: str = "", fault: str = "") -> Source:
    """A scan and its label; several are refused."""
    if len(labels) > 1 and not fault:
        some = " and ".join(shown(label, root) for label in labels[:2])
        fault = f"several labels: {some}; remove all but one, or name it in a CSV"
    label = labels[0] if labels else None
    return Source(
        id=clean(name),
        path=path,
        name=shown(path, root),
        label=label,
        label_name=shown(label, root) if label is not None else "",
        fault=fault,
        patient=patient,
    )


def claim_pairs(files: Iterable[Path], root: Path, channel: str | None) -> Claimed:
    """`case_seg` with `case`, or with the sequences of `case` (`case_t1`, `case_flair`), of which one is taken.

    The scans lie beside the label map, or in one other folder.
    """
    files = list(files)
    labels: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    sequences: dict[tuple[Path, str], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    whole: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in files:
        name = case_id(path)
        if match := LABEL.fullmatch(name):
            labels[path.parent, match[1]].append(path)
            continue
        whole[path.parent, name].append(path)
        match = SEQUENCE.fullmatch(name)
        if match and sequence_of(match[2]):
            sequences[path.parent, match[1]][sequence_of(match[2])].append(path)
    made = Claimed()
    label_of: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for (folder, name), paths in labels.items():
        places = [(folder, name)] if (folder, name) in whole or (folder, name) in sequences else []
        places = places or [key for key in (*whole, *sequences) if key[1] == name]
        if len(places) == 1:
            label_of[places[0]] += paths
    cases = {key for key in label_of if key in sequences and key not in whole}
    cases |= {key for key, its in sequences.items() if (cases or len(its) >= MANY) and key not in whole}
    for key in sorted(cases, key=lambda key: (key[1], str(key[0]))):
        fault, paths = one_channel(sequences[key], channel)
        match = BRATS_PATIENT.fullmatch(key[1])
        mine = [_pair(path, key[1], label_of.get(key, []), root, match[1] if match else "", fault) for path in paths]
        made.sources += mine
        others = [path for its in sequences[key].values() for path in its if path not in paths]
        made.left_out |= dict.fromkeys(others, OTHER_SEQUENCE)
        made.more |= set(label_of.get(key, []))
    for key, paths in label_of.items():
        if key in whole:
            made.sources += [_pair(path, key[1], paths, root) for path in whole[key]]
            made.more |= set(paths)
    if made.sources:
        made.layout = "BraTS (sequences and _seg of a case)" if cases else "pairs (case with case_seg)"
    return made
