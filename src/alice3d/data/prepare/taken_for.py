"""What every file of an input is taken for: a scan, the label of a scan, or ignored and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alice3d import console
from alice3d.data.prepare.case import check_label_grid
from alice3d.data.prepare.options import PrepareOptions
from alice3d.data.sources.sources import NO_DICOM, Found, Source
from alice3d.io.dicom.detect import is_dicom
from alice3d.io.folders import clean, shown, walk
from alice3d.io.read import case_id, check_scan, is_data_file, read_header, reader_of
from alice3d.io.volume import ScanError

WIDEST = 60
"""Columns of a name; longer ones push the second column."""
HEADERS = (".mhd", ".nhdr")


@dataclass(frozen=True)
class TakenFor:
    """A row of the table.

    Attributes:
        file: relative to the folder that the user gave; the folder of a DICOM series or of masks.
        what: scan, label, refused or ignored.
        case: of the scan or label; "" for a file that is ignored.
        why: of a file that is refused or ignored; of a scan the split that is declared for it.
    """

    file: str
    what: str
    case: str = ""
    why: str = ""

    def __str__(self) -> str:
        if self.what == "scan":
            return f"scan of case {self.case}" + (f", split {self.why}" if self.why else "")
        if self.what == "label":
            return f"label of case {self.case}"
        return f"{self.what}: {self.why}"


def files_of(scans: Path, labels: Path | None, found: Found, options: PrepareOptions) -> list[TakenFor]:
    """Every file under the folders of scans and labels, by name; of a list, those that it names.

    Headers are read, voxels are not.

    Args:
        scans, labels: as the user gave them.
        found: the sources in them.
        options: how headers are read.
    """
    rows: list[TakenFor] = []
    known: set[Path] = set()
    with console.progress("Reading headers", len(found.sources)) as bar:
        for source in found.sources:
            rows += _rows(source, options)
            known |= set(source.files or [source.path]) | set(source.label_files)
            bar.advance()
    known = {path.absolute() for path in known}
    left_out = {path.absolute(): why for path, why in found.left_out.items()}
    for root in (scans, labels):
        if root is None or not root.is_dir():
            continue
        for path in walk(root):
            absolute = path.absolute()
            if absolute in known or absolute.parent in known:
                continue
            known.add(absolute)  # the folder of labels may lie in that of the scans
            why = left_out.get(absolute) or _why(path, found, root == labels)
            rows.append(TakenFor(shown(path, root), "ignored", why=why))
    return sorted(rows, key=lambda row: (row.file, row.what))


def _rows(source: Source, options: PrepareOptions) -> list[TakenFor]:
    """Of a scan and its label."""
    reason = source.fault
    if not reason:
        try:
            header = read_header(source.path, files=source.files, unoriented=options.unoriented, volume=options.volume)
            check_scan(header)
            check_label_grid(source, header, options.unoriented)
        except ScanError as error:
            reason = error.reason
    many = f" ({len(source.files)} DICOM files)" if source.files else ""
    if reason:
        rows = [TakenFor(source.name + many, "refused", source.id, reason)]
    else:
        rows = [TakenFor(source.name + many, "scan", source.id, source.split or "")]
    if source.label is not None and not source.fault:
        masks = " (a mask a structure)" if source.label.is_dir() else ""
        rows.append(TakenFor(source.label_name + masks, "label", source.id))
    return rows


def _why(path: Path, found: Found, of_labels: bool) -> str:
    """Why a file is neither scan nor label."""
    extension = reader_of(path)
    if extension is None:
        header = next((path.with_suffix(one) for one in HEADERS if path.with_suffix(one).exists()), None)
        if header is not None:
            return f"the data file of {clean(header.name)}"
        if path.suffix.lower() not in NO_DICOM and is_dicom(path):
            return "a DICOM object without an image that is read"
        return "not a supported format"
    if is_data_file(path, extension):
        return f"the data file of {clean(case_id(path))}.hdr"
    if of_labels:
        return "a label map of no scan"
    return f"no scan or label of the layout: {found.layout}"


def say_table(rows: list[TakenFor], found: Found) -> None:
    """Print the table."""
    width = min(max((len(row.file) for row in rows), default=0), WIDEST)
    console.say(f"Taken as: {found.layout}")
    console.say(f"{'File':{width}}  Taken for")
    for row in rows:
        console.say(f"{row.file:{width}}  {row}")
