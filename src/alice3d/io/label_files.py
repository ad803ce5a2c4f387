"""Label maps of every kind: DICOM objects and Slicer's segmentations by the names of structures, others by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from alice3d.io.dicom.label_maps import read_labels
from alice3d.io.dicom.labels import read_object
from alice3d.io.read import read_header, read_label_voxels, reader_of
from alice3d.io.segments import read_segments
from alice3d.io.volume import Header, ScanError, Unoriented, Volume

NAMED = (".nrrd", ".seg.nrrd", ".nhdr", ".seg.nhdr")
"""Extensions of files that may name their structures."""


def is_object(path: Path) -> bool:
    """Whether a label file is a DICOM object, which lies on the voxels of its scan."""
    return reader_of(path) is None


def structures_of(path: Path) -> tuple[str, ...]:
    """Names of the structures that a label file names, in its order; none for a plain label map.

    Raises:
        ScanError: it cannot be read.
    """
    extension = reader_of(path)
    if extension is None:
        found = read_object(path)
        return () if found is None else tuple(found.names.values())
    if extension not in NAMED:
        return ()
    return tuple(segment.name for segment in read_header(path).details["segments"])


def read_label_files(
    paths: Sequence[Path],
    scan: Header,
    names: Mapping[int, str],
    *,
    declared: bool = True,
    unoriented: Unoriented = "refuse",
) -> Volume:
    """The label map of a scan.

    Args:
        paths: one file, or several DICOM objects of one scan.
        scan: header of the scan.
        names: label value to name. Files with names are read by name, plain label maps by value.
        declared: the user gave `names`; False where they were collected from files with names. The values of a plain
            label map are then not known.
        unoriented: orientation of a file that gives none.

    Returns:
        (i, j, k) values: of DICOM objects on the scan's grid, of others on their own; the affine, and notes.

    Raises:
        ScanError: as the readers, or a plain label map among labels with names.
    """
    if is_object(paths[0]):
        return read_labels(paths, scan, names)
    header = read_header(paths[0], unoriented=unoriented)
    if header.details.get("segments"):
        return read_segments(header, names)
    volume = read_label_voxels(header)
    if names and not declared and volume.array.any():
        what = "other labels name their structures, and what its values mean is not said"
        how = "declare them (alice prepare --label-names), or name them in the file too"
        raise ScanError(paths[0].name, f"without names: {what}; {how}")
    return Volume(volume.array, volume.affine)
