"""Finds the scans of the user's input, and the label of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
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
        label: its label file, or the folder of its binary masks, each named after its structure.
        label_name: relative to the labels' folder.
        split: from the layout; None where it gives none.
        fault: why it is refused before it is opened; "" otherwise.
        series, study, frame: identifiers of a DICOM series, its study and its coordinate system, to find its labels;
            never shown.
        owner: digest of its PatientID, for the same; never shown.
        more_labels: further DICOM segmentations of the series, which are joined with `label`.
        patient: who it is of, such as PatientID or the subject of a BIDS folder; "" where nothing says so; never shown
            or written.
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
    patient: str = field(default="", repr=False)
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
        layout: what the input is taken for.
        left_out: files that are neither a scan nor a label, and why.
    """

    sources: list[Source]
    label_names: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    structures: dict[int, str] = field(default_factory=dict)
    layout: str = "plain folder"
    left_out: dict[Path, str] = field(default_factory=dict)


@dataclass
class Claimed:
    """The files of a folder that a layout takes.

    Attributes:
        sources: scans, with their labels.
        left_out: files that are neither, and why.
        label_names: value to name, where the layout declares them.
        warnings: for the user.
        layout: its name; "" where it takes no file.
        more: further files of the layout, such as labels that a scan shares.
    """

    sources: list[Source] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)
    label_names: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    layout: str = ""
    more: set[Path] = field(default_factory=set)

    def takes(self, path: Path) -> bool:
        """Whether a file is one of them, or lies in a folder of masks."""
        return path in self.files or path.parent in self.files

    @cached_property
    def files(self) -> set[Path]:
        """Scans, labels or their folders, and what is left out."""
        labels = {source.label for source in self.sources if source.label is not None}
        return {source.path for source in self.sources} | labels | set(self.left_out) | self.more


Claim = Callable[[list[Path], Path], Claimed]
"""From the image files under a folder, and the folder, to those that a layout takes."""


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


def plain_sources(scans: Path, skip: Path | None = None, claim: Claim | None = None, *, unique: bool = True) -> Found:
    """Every scan of a folder and the folders in it, or one file.

    Args:
        scans: folder or file.
        skip: a folder inside that holds labels.
        claim: takes the files of a layout first.
        unique: scans that share a name are refused.

    Raises:
        UserError: no scan in it.
    """
    root = scans if scans.is_dir() else scans.parent
    apart = skip.resolve() if skip is not None and skip.resolve() != scans.resolve() else None
    files, slices, others = [], [], Counter[str]()
    left_out: dict[Path, str] = {}
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
            left_out[path] = "not a supported format"
    taken = claim(files, root) if claim is not None and scans.is_dir() else Claimed()
    files = [path for path in files if not taken.takes(path)]
    sources = [Source(id=clean(case_id(path)), path=path, name=shown(path, root)) for path in files]
    series, warnings = series_sources(slices, root)
    sources = [*taken.sources, *sources, *series]
    if not sources:
        held = ", ".join(f"{count} {extension}" for extension, count in others.most_common(3)) or "nothing"
        known = ", ".join((*EXTENSIONS, *DICOM_EXTENSIONS[:1]))
        more = f"; {unreadable[0]}" if unreadable else ""
        raise UserError(f"{scans}: no scans found; it holds {held}, supported are {known}{more}")
    return Found(
        without_duplicates(sources, unique=unique),
        taken.label_names,
        [*unreadable, *taken.warnings, *warnings],
        layout=taken.layout or ("plain folder" if scans.is_dir() else "one file"),
        left_out={**left_out, **taken.left_out},
    )


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
        sources[-1] = replace(
            sources[-1], series=one.uid, study=one.study, frame=one.frame, owner=one.owner, patient=one.patient.strip()
        )
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


def without_duplicates(sources: list[Source], *, unique: bool = True) -> list[Source]:
    """Sorted by id; scans that share a name (where it must be unique) and names that cannot be used get a fault."""
    alike: dict[str, list[Source]] = {}
    for source in sources:
        alike.setdefault(source.id.casefold(), []).append(source)
    checked = []
    for source in sorted(sources, key=lambda s: (s.id, s.name)):
        fault = source.fault
        others = [other.name for other in alike[source.id.casefold()] if other is not source]
        if not fault and others and unique:
            fault = f"duplicate case name: {source.id!r} is also {others[0]}; rename one, or give a CSV with ids"
        if not fault and (not source.id or source.id.strip() != source.id or any(c in source.id for c in "\\/")):
            fault = (
                "bad case name: line breaks, slashes and leading or trailing blanks are not allowed; rename the file"
            )
        if not fault and len(source.id.encode()) > MAX_ID_BYTES:
            fault = f"bad case name: longer than {MAX_ID_BYTES} bytes; rename the file"
        checked.append(replace(source, fault=fault))
    return checked
