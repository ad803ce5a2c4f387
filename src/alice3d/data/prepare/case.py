"""Processing of one case, the same in this process, in a pool and on a cluster: read, prepare, write, one row."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from alice3d.data.preprocessing.label_grid import onto_scan
from alice3d.data.preprocessing.labels import check_classes, resample_labels, structures_of, with_ignored
from alice3d.data.preprocessing.modality import modality_notes
from alice3d.data.preprocessing.preprocess import extent_mm, prepare_array
from alice3d.data.sources.masks import names_of_masks, read_masks
from alice3d.data.sources.sources import Source
from alice3d.data.store import Case
from alice3d.data.store.arrays import write_array
from alice3d.data.store.index import Row, joined
from alice3d.errors import WorkFailed
from alice3d.geometry import to_closest_ras
from alice3d.io.folders import walk
from alice3d.io.label_files import is_object, read_label_files
from alice3d.io.label_files import structures_of as names_in
from alice3d.io.read import check_scan, read_header, read_voxels
from alice3d.io.volume import Header, ScanError, Unoriented, check_voxels, voxels_checksum

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


@dataclass(frozen=True)
class Task:
    """One case, and how it is to be prepared; small and plain, so that it travels to other processes."""

    source: Source
    store: Path
    split: str
    spacing_mm: tuple[float, float, float]
    modality: Literal["ct", "mr"]
    modality_given: bool
    crop: Literal["body", "none"]
    label_names: dict[int, str]
    unoriented: Unoriented
    patient: str = ""
    root: str = ""
    ignored: int | None = None
    """Label value whose voxels have no reference."""
    names_declared: bool = True
    volume: str = ""


def stamp(source: Source) -> str:
    """Size and modification time of the files of a case; "" where they cannot be read."""
    words = []
    try:
        scan = walk(source.path) if source.path.is_dir() else [source.path]
        for files in (source.files or scan, _label_files(source)):
            seen = [path.stat() for path in files]
            if seen:
                words.append(f"{sum(s.st_size for s in seen)}:{max(s.st_mtime_ns for s in seen)}")
    except OSError:
        return ""
    return " ".join(words)


def _label_files(source: Source) -> list[Path]:
    return [file for path in source.label_files for file in (walk(path) if path.is_dir() else [path])]


def refused_row(source: Source, reason: str, split: str = "", root: str = "") -> Row:
    """The row of a refused scan."""
    return {
        "id": source.id,
        "split": split,
        "status": "refused",
        "reason": reason,
        "source": source.name,
        "label_source": source.label_name,
        "stamp": stamp(source),
        "root": root,
    }


def work(task: Task) -> Row:
    """Prepare one case and write its arrays.

    Returns:
        the row for the index: taken (accepted), or refused with the reason.

    Raises:
        WorkFailed: the store cannot be written, which would fail for every other case too.
    """
    source = task.source
    if source.fault:
        return _refused(task, source.fault)
    try:
        return _prepare(task)
    except ScanError as error:
        return _refused(task, error.reason)
    except MemoryError:
        return _refused(task, "too large: preparing it takes more memory than there is")
    except WorkFailed:
        raise
    except Exception as error:  # one bad scan never stops a batch; its text may hold what must not be shown
        return _refused(task, f"unexpected {type(error).__name__} while it was prepared")


def _refused(task: Task, reason: str) -> Row:
    return refused_row(task.source, reason, task.split, task.root)


def _of_label(source: Source, error: ScanError) -> ScanError:
    """`on another grid` becomes `label on another grid`: the row is that of the scan."""
    return ScanError(source.name, f"label {error.reason}")


def _prepare(task: Task) -> Row:
    source = task.source
    header = read_header(source.path, files=source.files, unoriented=task.unoriented, volume=task.volume)
    check_scan(header)
    check_label_grid(source, header, task.unoriented)
    array = read_voxels(header)
    check_voxels(array, source.name)
    label: Any = None
    label_affine = header.affine
    notes: tuple[str, ...] = ()
    if source.label is not None:
        label, label_affine, notes = _label(task, header)
    prepared = prepare_array(
        header.volume(array),
        spacing_mm=task.spacing_mm,
        modality=task.modality,
        crop=task.crop,
        keep_mm=None if label is None else extent_mm(label, label_affine),
        modality_given=task.modality_given,
        modality_overrides=task.modality_given,
        name=source.name,
    )
    notes = (*notes, *modality_notes(array, task.modality, header.details.get("modality", "")))
    del array
    on_grid: Any = None
    if label is not None:
        on_grid, lost = resample_labels(label, label_affine, prepared.grid)
        notes = (*notes, *lost)
        if label.any() and not on_grid.any():  # not healthy: its structures lie outside
            on_grid = None
    row: Row = {}
    try:
        affine = prepared.grid.affine
        row["image_sha256"] = write_array(task.store / "images" / f"{source.id}.b2nd", prepared.image, affine)
        if on_grid is not None:
            row["label_sha256"] = write_array(task.store / "labels" / f"{source.id}.b2nd", on_grid, affine)
    except OSError as error:
        raise WorkFailed(cannot_write(task.store, error)) from None
    shape = prepared.image.shape
    case = Case(
        id=source.id,
        split=task.split,
        shape=(shape[0], shape[1], shape[2]),
        grid=prepared.grid,
        stats=prepared.stats,
        body_box_mm=prepared.body_box_mm,
        checksum=prepared.checksum,
        content=prepared.content,
        source=source.name,
        labelled=on_grid is not None,
        structures=() if on_grid is None else structures_of(on_grid),
        label_checksum="" if on_grid is None else voxels_checksum(on_grid),
        notes="; ".join((*prepared.notes, *notes)),
        patient=task.patient,
    )
    turned, turned_affine = to_closest_ras(np.broadcast_to(np.uint8(0), header.shape), header.affine)
    row["source_shape"] = joined(turned.shape)
    row["source_spacing_mm"] = joined(np.sqrt((turned_affine[:3, :3] ** 2).sum(axis=0)).round(6))
    return {**case.to_row(), **row, "label_source": source.label_name, "stamp": stamp(source), "root": task.root}


def cannot_write(store: Path, error: OSError) -> str:
    """The error where a file of the store could not be written."""
    what = "disk full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or type(error).__name__
    return f"{store}: cannot be written ({what}); existing files are complete, and the same command resumes"


def check_label_grid(source: Source, header: Header, unoriented: Unoriented) -> None:
    """Compare the grid of the label's header before any voxel is read; a DICOM object has its own geometry.

    Raises:
        ScanError: the label cannot be read, or lies on another grid than its scan.
    """
    if source.label is None:
        return
    try:
        path = source.label
        if path.is_dir():
            path = next(iter(names_of_masks(path).values()))
        elif is_object(path):
            return
        label = read_header(path, unoriented=unoriented)
        onto_scan(np.broadcast_to(np.uint8(0), label.shape), label.affine, header.shape, header.affine, "")
    except ScanError as error:
        raise _of_label(source, error) from None


def _label(task: Task, header: Header) -> tuple[Any, Any, tuple[str, ...]]:
    """Label values with axes closest to RAS, their affine, and notes; None for a DICOM object without structures."""
    source = task.source
    assert source.label is not None
    try:
        if source.label.is_dir():
            volume = read_masks(source.label, header, task.label_names, task.unoriented)
        else:
            volume = read_label_files(
                source.label_files, header, task.label_names, declared=task.names_declared, unoriented=task.unoriented
            )
        array = volume.array if task.ignored is None else with_ignored(volume.array, task.ignored)
        volume = replace(volume, array=array)
        values = np.array(structures_of(volume.array), int)
        check_classes(values, task.label_names, source.label_name)
        fitted = onto_scan(volume.array, volume.affine, header.shape, header.affine, source.label_name)
    except ScanError as error:
        raise _of_label(source, error) from None
    if not values.any():
        if source.label.is_dir() or names_in(source.label) or is_object(source.label):
            # Of the structures that it names none was drawn, or none has a name here.
            return None, fitted.affine, (*volume.notes, "the label is empty, the case counts as unlabelled")
        return fitted.label, fitted.affine, (*volume.notes, "the label is empty, the case counts as healthy")
    return fitted.label, fitted.affine, (*volume.notes, *([fitted.note] if fitted.note else []))
