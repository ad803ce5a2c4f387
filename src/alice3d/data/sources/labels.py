"""Gives scans the labels of a folder, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alice3d.data.sources.sources import NO_DICOM, Found, listed, searched, with_objects
from alice3d.errors import UserError
from alice3d.io.dicom.detect import is_dicom
from alice3d.io.dicom.sorting import group
from alice3d.io.folders import clean, shown
from alice3d.io.read import case_id, is_data_file, reader_of


def without_scan(labels: Sequence[str]) -> list[str]:
    """A warning where labels, by their ids, have no scan."""
    return [f"{len(labels)} labels have no scan of their name ({listed(sorted(labels))})"] if labels else []


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
