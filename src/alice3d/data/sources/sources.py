"""Finds the scans of the user's input, and the label of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from alice3d.errors import UserError
from alice3d.io.dicom.detect import EXTENSIONS as DICOM_EXTENSIONS
from alice3d.io.dicom.detect import is_dicom
from alice3d.io.dicom.labels import LabelObject
from alice3d.io.dicom.sorting import group
from alice3d.io.folders import clean, shown, walk
from alice3d.io.read import EXTENSIONS, case_id, is_data_file, reader_of

MAX_ID_BYTES = 200
"""File systems allow 255; the store adds an extension."""
NO_DICOM = {".json", ".csv", ".txt", ".md", ".xml", ".png", ".jpg", ".jpeg", ".pdf", ".html", ".py", ".zip", ".yaml"}
"""Files with these extensions are not opened to check whether they are DICOM."""


@dataclass(frozen=True)
class Source:
    """One scan to prepare.

    Attributes:
        id: case id.
        path: the file, or the folder of a series.
        name: path relative to the folder the user gave.
        files: of a DICOM series; None for other formats.
        label: its label file.
        label_name: relative to the labels' folder.
        split: from the layout; None where it gives none.
        fault: why it is refused before it is opened; "" otherwise.
        series, study, frame: identifiers of a DICOM series, its study and its coordinate system, to find its labels;
            never shown.
        owner: digest of its PatientID, for the same; never shown.
        more_labels: further DICOM segmentations of the series, which are joined with `label`.
    """

    id: str
    path: Path
    name: str
    files: tuple[Path, ...] | None = None
    label: Path | None = None
    label_name: str = ""
    split: str | None = None
    fault: str = ""
    series: str = field(default="", repr=False)
    frame: str = field(default="", repr=False)
    study: str = field(default="", repr=False)
    owner: str = field(default="", repr=False)
    more_labels: tuple[Path, ...] = ()

    @property
    def label_files(self) -> tuple[Path, ...]:
        """All files of its label; empty where it has none."""
        return () if self.label is None else (self.label, *self.more_labels)


@dataclass(frozen=True)
class Found:
    """Result of a search.

    Attributes:
        sources: sorted by id.
        label_names: value to name, where the layout declares them.
        structures: value to name of all structures in label files that name them, where nothing declares values.
        warnings: for the user.
    """

    sources: list[Source]
    label_names: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    structures: dict[int, str] = field(default_factory=dict)


def searched(folder: Path, root: Path) -> tuple[list[Path], list[str]]:
    """Files under a folder, and a warning where folders in it, shown relative to `root`, cannot be read.

    Raises:
        UserError: the folder itself cannot be read.
    """
    unreadable: list[Path] = []
    files = list(walk(folder, unreadable))
    if folder in unreadable:
        raise UserError(f"{folder}: cannot be read; correct its permissions")
    some = listed([shown(path, root) for path in unreadable])
    return files, [f"{len(unreadable)} folders cannot be read and are left out ({some})"] if unreadable else []


def listed(names: Sequence[str]) -> str:
    """The first three of some names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def without_scan(labels: Sequence[str]) -> list[str]:
    """A warning where labels, by their ids, have no scan."""
    return [f"{len(labels)} labels have no scan of their name ({listed(sorted(labels))})"] if labels else []


def plain_sources(scans: Path, skip: Path | None = None) -> Found:
    """Every scan of a folder and the folders in it, or one file.

    Args:
        scans: folder or file.
        skip: a folder inside that holds labels.

    Raises:
        UserError: no scan in it.
    """
    root = scans if scans.is_dir() else scans.parent
    apart = skip.resolve() if skip is not None and skip.resolve() != scans.resolve() else None
    files, slices, others = [], [], Counter[str]()
    candidates, unreadable = searched(scans, root) if scans.is_dir() else ([scans], [])
    for path in candidates:
        if apart is not None and apart in path.resolve().parents:
            continue
        extension = reader_of(path)
        if extension is not None:
            if not is_data_file(path, extension):
                files.append(path)
        elif path.suffix.lower() not in NO_DICOM and is_dicom(path):
            slices.append(path)
        else:
            others[path.suffix.lower() or "no extension"] += 1
    sources = [Source(id=clean(case_id(path)), path=path, name=shown(path, root)) for path in files]
    series, warnings = series_sources(slices, root)
    if not sources and not series:
        held = ", ".join(f"{count} {extension}" for extension, count in others.most_common(3)) or "nothing"
        known = ", ".join((*EXTENSIONS, *DICOM_EXTENSIONS[:1]))
        left_out = f"; {unreadable[0]}" if unreadable else ""
        raise UserError(f"{scans}: no scans found; it holds {held}, supported are {known}{left_out}")
    return Found(without_duplicates([*sources, *series]), warnings=[*unreadable, *warnings])


def series_sources(slices: Sequence[Path], root: Path) -> tuple[list[Source], list[str]]:
    """A source for each DICOM series, named after its folder; and warnings.

    Identifiers of the files are not shown: several series in one folder are distinguished by number.
    """
    series, damaged, others, labels = group(slices)
    a_folder = Counter(one.folder for one in series if not one.part)
    numbers = Counter((one.folder, one.number) for one in series if not one.part)
    sources, count = [], Counter[tuple[Path, str]]()
    for one in series:
        name = _folder_name(one.folder, root)
        at = shown(one.folder, root)
        if a_folder[one.folder] > 1:
            number = one.number if one.number.isdigit() else "0"
            count[one.folder, one.number] += not one.part
            if numbers[one.folder, one.number] > 1:
                number += "abcdefghijklmnopqrstuvwxyz"[min(max(count[one.folder, one.number], 1), 26) - 1]
            name, at = f"{name}_s{number}", f"{at} (series {number})"
        if one.part:
            name, at = f"{name}_{one.part}", f"{at} ({one.part})"
        sources.append(Source(id=name, path=one.folder, name=at, files=tuple(sorted(one.files)), fault=one.fault))
        sources[-1] = replace(sources[-1], series=one.uid, study=one.study, frame=one.frame, owner=one.owner)
    for path, reason in damaged:
        sources.append(Source(id=clean(case_id(path)), path=path, name=shown(path, root), fault=reason))
    sources, warnings = with_objects(sources, labels, root)
    if others:
        kinds = ", ".join(f"{count} {clean(kind)[:16]}" for kind, count in others.most_common(5))
        warnings.append(f"{others.total()} DICOM objects without images are left out ({kinds})")
    return sources, warnings


def _folder_name(folder: Path, root: Path) -> str:
    """Case id of a series: the folders below the root, joined; the root's own name for slices directly in it."""
    parts = folder.relative_to(root).parts if folder.is_relative_to(root) else (folder.name,)
    return clean("_".join(parts) or root.resolve().name)


def with_objects(
    sources: Sequence[Source], objects: Sequence[LabelObject], root: Path
) -> tuple[list[Source], list[str]]:
    """Give each DICOM series the segmentation or structure set that references it; and warnings."""
    mine: dict[int, list[LabelObject]] = {}
    strangers = 0
    for one in objects:
        places = _places_of(one, sources)
        strangers += not places
        for n in places:
            mine.setdefault(n, []).append(one)
    labelled = list(sources)
    for n, found in mine.items():
        names = [shown(one.path, root) for one in found]
        labelled[n] = replace(sources[n], label=found[0].path, label_name=names[0])
        if len(names) > 1 and all(one.segments for one in found):
            further = tuple(one.path for one in found[1:])
            labelled[n] = replace(labelled[n], more_labels=further, label_name=listed(names))
        elif len(names) > 1:
            fault = f"several labels: {', '.join(names[:3])}; remove all but one, or name it in a CSV"
            labelled[n] = replace(labelled[n], fault=fault)
    many = f"{strangers} DICOM segmentations or structure sets belong to no series that was found"
    return labelled, [many] if strangers else []


def _places_of(one: LabelObject, sources: Sequence[Source]) -> list[int]:
    """Where the series of a label object are: of several with the referenced UID, those of its study and frame."""
    places = [
        n for n, s in enumerate(sources) if s.files and not s.fault and one.belongs_to(s.series, s.frame, s.owner)
    ]
    for agrees in (lambda s: s.study == one.study, lambda s: s.frame in one.frames):
        near = [n for n in places if agrees(sources[n])]
        places = near if near and len(places) > 1 else places
    return places


def without_duplicates(sources: list[Source]) -> list[Source]:
    """Sorted by id; scans that share a name, and names that cannot be used, get a fault."""
    alike: dict[str, list[Source]] = {}
    for source in sources:
        alike.setdefault(source.id.casefold(), []).append(source)
    checked = []
    for source in sorted(sources, key=lambda s: (s.id, s.name)):
        fault = source.fault
        others = [other.name for other in alike[source.id.casefold()] if other is not source]
        if not fault and others:
            fault = f"duplicate case name: {source.id!r} is also {others[0]}; rename one, or give a CSV with ids"
        if not fault and (not source.id or source.id.strip() != source.id or any(c in source.id for c in "\\/")):
            fault = (
                "bad case name: line breaks, slashes and leading or trailing blanks are not allowed; rename the file"
            )
        if not fault and len(source.id.encode()) > MAX_ID_BYTES:
            fault = f"bad case name: longer than {MAX_ID_BYTES} bytes; rename the file"
        checked.append(replace(source, fault=fault))
    return checked


def with_labels(found: Found, labels: Path) -> Found:
    """Give each source the label of the same name from a folder.

    Raises:
        UserError: no label has the name of a scan.
    """
    by_id: dict[str, list[Path]] = {}
    dicom = []
    files, unreadable = searched(labels, labels)
    for path in files:
        extension = reader_of(path)
        if extension is not None and not is_data_file(path, extension):
            by_id.setdefault(clean(case_id(path)), []).append(path)
        elif extension is None and path.suffix.lower() not in NO_DICOM and is_dicom(path):
            dicom.append(path)
    given, strangers = with_objects(found.sources, group(dicom).labels if dicom else [], labels)
    if not by_id and not dicom:
        raise UserError(f"{labels}: no labels found")
    sources = []
    for source in given:
        mine = by_id.pop(source.id, [])
        if len(mine) > 1 and not source.fault:
            names = " and ".join(shown(path, labels) for path in mine[:2])
            source = replace(source, fault=f"duplicate label: {names}; remove one")
        if mine:
            source = replace(source, label=mine[0], label_name=shown(mine[0], labels))
        sources.append(source)
    warnings = [*found.warnings, *unreadable, *strangers, *without_scan(list(by_id))]
    if not any(source.label for source in sources):
        raise UserError(f"{labels}: no label has the name of a scan; a label is named like its scan")
    return replace(found, sources=sources, warnings=warnings)
