"""Segmentations of 3D Slicer (.seg.nrrd): structures by name, cropped or in layers, old and new keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scan_files import head_like, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.io.label_files import read_label_files, structures_of
from alice3d.io.read import read_header, read_scan
from alice3d.io.volume import ScanError, Volume

SHAPE = (14, 12, 10)
LPS_MM = 3.0
AFFINE = np.diag([-LPS_MM, -LPS_MM, LPS_MM, 1.0])
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct", crop="none")
LIVER, SPLEEN = (slice(2, 6), slice(3, 7), slice(2, 7)), (slice(8, 12), slice(3, 7), slice(2, 7))


def box(*places: Any) -> NDArray[np.uint8]:
    """A label map (i, j, k) of boxes, valued 1, 2, ..."""
    label = np.zeros(SHAPE, np.uint8)
    for value, place in enumerate(places, start=1):
        label[place] = value
    return label


def write_seg_nrrd(
    path: Path, array: NDArray[Any], keys: dict[str, str], *, start: tuple[int, int, int] = (0, 0, 0)
) -> Path:
    """Write an array (i, j, k), or (layers, i, j, k), as Slicer does; `start` is the index of its first voxel."""
    layered = array.ndim == 4
    directions = " ".join(["(3,0,0)", "(0,3,0)", "(0,0,3)"])
    lines = [
        "NRRD0004",
        f"type: {'uchar' if array.dtype == np.uint8 else 'short'}",
        f"dimension: {array.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, array.shape))}",
        f"space directions: {'none ' if layered else ''}{directions}",
        f"kinds: {'list ' if layered else ''}domain domain domain",
        "endian: little",
        "encoding: raw",
        f"space origin: ({','.join(str(LPS_MM * n) for n in start)})",
        *(f"{key}:={value}" for key, value in keys.items()),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + array.tobytes(order="F"))
    return path


def keys_of(*segments: tuple[str, int, int]) -> dict[str, str]:
    """Keys of Slicer 4.11 and newer: name, value and layer of each segment."""
    keys = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    for n, (name, value, layer) in enumerate(segments):
        keys |= {f"Segment{n}_ID": f"Segment_{n + 1}", f"Segment{n}_Name": name, f"Segment{n}_LabelValue": str(value)}
        keys |= {f"Segment{n}_Layer": str(layer), f"Segment{n}_Extent": "0 1 0 1 0 1"}
    return keys


def read(path: Path, names: dict[int, str] | None = None) -> Volume:
    return read_label_files([path], read_header(path), names or {})


def scan_with(folder: Path, case: str, label: NDArray[Any], keys: dict[str, str], **more: Any) -> None:
    write_nifti(folder / "images" / f"{case}.nii.gz", head_like(SHAPE), AFFINE)
    write_seg_nrrd(folder / "labels" / f"{case}.seg.nrrd", label, keys, **more)


def test_names_decide_where_values_differ_from_file_to_file(tmp_path: Path) -> None:
    scan_with(tmp_path / "d", "p1", box(LIVER, SPLEEN), keys_of(("Liver", 1, 0), ("Spleen", 2, 0)))
    scan_with(tmp_path / "d", "p2", box(SPLEEN, LIVER), keys_of(("Spleen", 1, 0), ("Liver", 2, 0)))
    prepare(tmp_path / "d", tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert store.label_names == {1: "Liver", 2: "Spleen"}
    np.testing.assert_array_equal(store.label("p1")[:], store.label("p2")[:])
    assert (store.label("p1")[:] == 1).sum() == (box(LIVER) == 1).sum()


def test_declared_names_choose_values_and_structures(tmp_path: Path) -> None:
    scan_with(tmp_path / "d", "p1", box(LIVER, SPLEEN), keys_of(("Liver", 1, 0), ("Spleen", 2, 0)))
    prepare(tmp_path / "d", tmp_path / "s", PrepareOptions(**{**vars(OPTIONS), "label_names": {7: "Spleen"}}))
    case = Store.open(tmp_path / "s").case("p1")
    assert case.structures == (7,)
    assert "left out: Liver" in case.notes


def test_a_plain_map_among_named_ones_is_refused_until_its_values_are_declared(tmp_path: Path) -> None:
    scan_with(tmp_path / "d", "p1", box(LIVER, SPLEEN), keys_of(("Spleen", 1, 0), ("Liver", 2, 0)))
    write_nifti(tmp_path / "d" / "images" / "p2.nii.gz", head_like(SHAPE), AFFINE)
    write_nifti(tmp_path / "d" / "labels" / "p2.nii.gz", box(LIVER), AFFINE)
    prepare(tmp_path / "d", tmp_path / "s", OPTIONS)
    prepare(tmp_path / "d", tmp_path / "s", OPTIONS)  # an added case is judged as one of the first call
    ((name, _, reason),) = Store.open(tmp_path / "s").refused
    assert name == "p2"
    assert reason.startswith("label without names")
    declared = PrepareOptions(**{**vars(OPTIONS), "label_names": {1: "Liver", 2: "Spleen"}})
    prepare(tmp_path / "d", tmp_path / "t", declared)
    store = Store.open(tmp_path / "t")
    assert [case.structures for case in store.cases()] == [(1, 2), (1,)]
    assert (store.label("p1")[:][LIVER] == 2).all() or (store.label("p1")[:] == 2).sum() == 80


def test_named_files_do_not_join_a_store_of_values_without_names(tmp_path: Path) -> None:
    write_nifti(tmp_path / "d" / "images" / "p2.nii.gz", head_like(SHAPE), AFFINE)
    write_nifti(tmp_path / "d" / "labels" / "p2.nii.gz", box(LIVER), AFFINE)
    prepare(tmp_path / "d", tmp_path / "s", OPTIONS)
    scan_with(tmp_path / "d", "p1", box(LIVER, SPLEEN), keys_of(("Spleen", 1, 0), ("Liver", 2, 0)))
    with pytest.raises(UserError, match="holds labels without names"):
        prepare(tmp_path / "d", tmp_path / "s", OPTIONS)


def test_a_cropped_segmentation_is_padded_to_its_scan(tmp_path: Path) -> None:
    whole = box(LIVER, SPLEEN)
    keys = keys_of(("Liver", 1, 0), ("Spleen", 2, 0)) | {"Segmentation_ReferenceImageExtentOffset": "2 3 2"}
    scan_with(tmp_path / "d", "p1", whole[2:12, 3:7, 2:7], keys, start=(2, 3, 2))
    scan_with(tmp_path / "d", "p2", whole, keys_of(("Liver", 1, 0), ("Spleen", 2, 0)))
    prepare(tmp_path / "d", tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    np.testing.assert_array_equal(store.label("p1")[:], store.label("p2")[:])
    assert "covers 10 x 4 x 5 voxels" in store.case("p1").notes


def test_layers_are_joined_and_the_smaller_structure_is_kept(tmp_path: Path) -> None:
    tumour = (slice(3, 5), slice(4, 6), slice(3, 5))
    layers = np.stack([box(LIVER, SPLEEN), box(tumour)])
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", layers, keys_of(("Liver", 1, 0), ("Spleen", 2, 0), ("Tumour", 1, 1)))
    found = read(path)
    assert structures_of(path) == ("Liver", "Spleen", "Tumour")
    assert np.bincount(found.array.ravel())[1:].tolist() == [80 - 8, 80, 8]
    assert (found.array[tumour] == 3).all()
    assert "structures overlap, the smaller one is kept" in found.notes


@pytest.mark.parametrize("count", [1, 2])
def test_keys_of_older_slicers(tmp_path: Path, count: int) -> None:
    """Before 4.11 each segment was a volume of its own, of value 1; a single one a plain volume."""
    layers = np.stack([box(LIVER), box(SPLEEN)])[:count]
    keys = {f"Segment{n}_Name": name for n, name in enumerate(["Liver", "Spleen"][:count])}
    found = read(write_seg_nrrd(tmp_path / "a.seg.nrrd", layers if count > 1 else layers[0], keys))
    assert np.bincount(found.array.ravel())[1:].tolist() == [80] * count
    assert (found.array[LIVER] == 1).all()


def test_names_with_accents_escapes_and_blanks(tmp_path: Path) -> None:
    keys = keys_of(("Vésicule  biliaire ", 1, 0), (r"left\nright \\ a", 2, 0))
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", box(LIVER, SPLEEN), keys)
    assert structures_of(path) == ("Vésicule biliaire", "left right \\ a")
    decomposed = keys_of(("Ve\u0301sicule biliaire", 1, 0))
    assert structures_of(write_seg_nrrd(tmp_path / "b.seg.nrrd", box(LIVER), decomposed)) == ("Vésicule biliaire",)


def test_segments_without_voxels_and_of_one_name(tmp_path: Path) -> None:
    keys = keys_of(("Node", 1, 0), ("Node", 2, 0), ("Spleen", 5, 0))
    found = read(write_seg_nrrd(tmp_path / "a.seg.nrrd", box(LIVER, SPLEEN), keys))
    assert np.unique(found.array).tolist() == [0, 1]
    assert (found.array == 1).sum() == 160
    assert found.notes == ("segments of one name are joined: Node",)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (keys_of(("Liver", 1, 0)), "voxels of value 2 have no segment"),
        (keys_of(("Liver", 1, 3)), "segment Liver has value '1' in layer '3'"),
        (keys_of(("Liver", 0, 0)), "segment Liver has value '0'"),
        ({"Segment0_Name": "Liver", "Segment1_Name": "Spleen"}, "segment Liver has value ''"),
    ],
)
def test_segmentations_that_contradict_themselves_are_refused(tmp_path: Path, keys: dict[str, str], words: str) -> None:
    with pytest.raises(ScanError, match=words):
        read(write_seg_nrrd(tmp_path / "a.seg.nrrd", box(LIVER, SPLEEN), keys))


def test_a_segmentation_is_no_scan(tmp_path: Path) -> None:
    path = write_seg_nrrd(tmp_path / "a.seg.nrrd", box(LIVER), keys_of(("Liver", 1, 0)))
    with pytest.raises(ScanError, match="a segmentation of 3D Slicer, not a scan"):
        read_scan(path)
