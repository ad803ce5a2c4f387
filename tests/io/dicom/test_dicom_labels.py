"""DICOM segmentations and structure sets: every structure at its place and side, by its name; faults reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import PLANTED, write_series
from dicom_label_files import in_frame, write_rtstruct, write_seg
from pydicom.dataset import Dataset
from scan_files import affine_of, head_like, oblique, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.geometry import apply_affine
from alice3d.io.dicom.contours import filled
from alice3d.io.dicom.label_maps import read_labels
from alice3d.io.dicom.labels import read_object
from alice3d.io.read import read_header

SHAPE = (24, 26, 20)
WRITERS = {"seg": write_seg, "rtstruct": write_rtstruct}
OPTIONS = PrepareOptions(spacing_mm=(2.0, 2.0, 2.5), modality="ct")


def sphere(at: tuple[int, int, int], radius: float = 4.0) -> Any:
    return radius**2 > ((np.indices(SHAPE).T - at) ** 2).sum(axis=-1).T


STRUCTURES = {"Parotid L": sphere((7, 9, 6)), "spinal cord": sphere((15, 13, 12), 3.0)}


def place_of(name: str) -> Any:
    return oblique() if name == "oblique" else affine_of(axes=name)


@pytest.mark.parametrize("place", ["LPS", "RAS", "PLI", "LSA", "oblique"])
@pytest.mark.parametrize("kind", WRITERS)
def test_voxels_are_those_that_were_written(tmp_path: Path, kind: str, place: str) -> None:
    affine = place_of(place)
    write_series(tmp_path / "ct", head_like(SHAPE), affine)
    path = WRITERS[kind](tmp_path / "label.dcm", tmp_path / "ct", STRUCTURES, affine)
    header = read_header(tmp_path / "ct")
    volume = read_labels(path, header, {})
    for value, mask in enumerate(STRUCTURES.values(), start=1):
        index = apply_affine(np.linalg.inv(header.affine) @ affine, np.argwhere(mask)).round().astype(int)
        found = np.argwhere(volume.array == value)
        assert {tuple(v) for v in found} == {tuple(v) for v in index}
    assert volume.notes == ()


@pytest.mark.parametrize("kind", WRITERS)
def test_prepare_finds_the_label_of_each_series(tmp_path: Path, kind: str) -> None:
    """Two series in one folder, the labels in another; the store holds each structure at its side, by its name."""
    scans, affine = tmp_path / "scans", affine_of(axes="LPS")
    for number, name in ((1, "a"), (2, "b")):
        write_series(scans / "p" / name, head_like(SHAPE, seed=number), affine, number=number)
    WRITERS[kind](scans / "labels" / "y.dcm", scans / "p" / "a", STRUCTURES, affine)
    other = {"liver": sphere((9, 9, 9)), **STRUCTURES}
    WRITERS[kind](scans / "labels" / "x.dcm", scans / "p" / "b", other, affine)
    prepare(scans, tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert store.label_names == {1: "Parotid L", 2: "spinal cord", 3: "liver"}
    case = store.case("p_a")
    assert (case.structures, store.rows["p_a"]["label_source"]) == ((1, 2), "labels/y.dcm")
    for value, mask in enumerate(STRUCTURES.values(), start=1):
        found = case.grid.world(np.argwhere(store.label("p_a")[:] == value).mean(axis=0))
        expected = apply_affine(affine, np.argwhere(mask).mean(axis=0))
        assert np.abs(found - expected).max() < 1.0  # half a voxel
    assert store.case("p_b").structures == (1, 2, 3)
    assert "structures overlap, the smaller one is kept" in store.case("p_b").notes
    again = prepare(scans, tmp_path / "s", OPTIONS)
    assert again["added"] == 0


def test_labels_folder_and_frame_of_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    affine = affine_of(axes="LPS")
    write_series(tmp_path / "scans" / "a", head_like(SHAPE), affine)
    write_series(tmp_path / "scans" / "b", head_like(SHAPE, seed=1), affine)
    in_frame(tmp_path / "scans" / "a")
    write_rtstruct(tmp_path / "labels" / "one.dcm", tmp_path / "scans" / "a", STRUCTURES, affine, names_series=False)
    write_series(tmp_path / "gone", head_like(SHAPE, seed=2), affine)
    write_seg(tmp_path / "labels" / "two.dcm", tmp_path / "gone", STRUCTURES, affine)
    prepare(tmp_path / "scans", tmp_path / "s", PrepareOptions(modality="ct", labels=tmp_path / "labels"))
    store = Store.open(tmp_path / "s")
    assert [(case.id, case.labelled) for case in store.cases()] == [("a", True), ("b", False)]
    assert "1 DICOM segmentations or structure sets belong to no series" in capsys.readouterr().err


def test_declared_names_choose_structures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    affine = affine_of(axes="LPS")
    write_series(tmp_path / "scans" / "a", head_like(SHAPE), affine)
    write_rtstruct(tmp_path / "scans" / "rt.dcm", tmp_path / "scans" / "a", STRUCTURES, affine)
    prepare(tmp_path / "scans", tmp_path / "s", PrepareOptions(modality="ct", label_names={7: "spinal cord"}))
    case = Store.open(tmp_path / "s").case("a")
    assert case.structures == (7,)
    assert "left out: Parotid L" in case.notes
    assert "without a value in the store's label names are left out: Parotid L" in capsys.readouterr().err


def test_new_series_keep_the_values_of_a_store(tmp_path: Path) -> None:
    affine = affine_of(axes="LPS")
    write_series(tmp_path / "scans" / "b", head_like(SHAPE), affine)
    prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)
    write_seg(tmp_path / "scans" / "b.seg.dcm", tmp_path / "scans" / "b", {"cord": STRUCTURES["spinal cord"]}, affine)
    prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)
    assert Store.open(tmp_path / "s").label_names == {1: "cord"}
    write_series(tmp_path / "scans" / "a", head_like(SHAPE, seed=1), affine)
    both = {"new": STRUCTURES["Parotid L"], "cord": STRUCTURES["spinal cord"]}
    write_seg(tmp_path / "scans" / "a.seg.dcm", tmp_path / "scans" / "a", both, affine)
    prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert store.label_names == {1: "cord"}
    assert store.case("a").structures == store.case("b").structures == (1,)


def test_csv_names_a_structure_set(tmp_path: Path) -> None:
    affine = affine_of(axes="LPS")
    write_series(tmp_path / "a", head_like(SHAPE), affine)
    write_rtstruct(tmp_path / "rt", tmp_path / "a", STRUCTURES, affine)
    write_nifti(tmp_path / "n.nii", head_like(SHAPE), affine)
    (tmp_path / "list.csv").write_text("image,label,id\na,rt,one\nn.nii,rt,two\n")
    prepare(tmp_path / "list.csv", tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert store.label_names == {1: "Parotid L", 2: "spinal cord"}
    np.testing.assert_array_equal(store.label("one")[:], store.label("two")[:])


@pytest.mark.parametrize("kind", ["FRACTIONAL", "BINARY", "LABELMAP"])
def test_kinds_of_segmentations(tmp_path: Path, kind: str) -> None:
    affine = affine_of(axes="LPS")
    write_series(tmp_path / "a", head_like(SHAPE), affine)
    path = write_seg(tmp_path / "s.dcm", tmp_path / "a", STRUCTURES, affine, kind=kind)
    counts = np.bincount(read_labels(path, read_header(tmp_path / "a"), {}).array.ravel())
    assert counts[1:].tolist() == [int(mask.sum()) for mask in STRUCTURES.values()]


def test_contours_on_every_second_slice_and_holes(tmp_path: Path) -> None:
    affine = affine_of(axes="LPS")
    write_series(tmp_path / "a", head_like(SHAPE), affine)
    ring = {"ring": sphere((11, 12, 10), 8.0) & ~sphere((11, 12, 10), 4.0)}
    header = read_header(tmp_path / "a")
    whole = read_labels(write_rtstruct(tmp_path / "one", tmp_path / "a", ring, affine), header, {}).array
    assert whole.sum() == ring["ring"].sum()
    half = read_labels(write_rtstruct(tmp_path / "two", tmp_path / "a", ring, affine, every=2), header, {}).array
    assert half.any(axis=(0, 1)).sum() >= whole.any(axis=(0, 1)).sum() - 1
    assert 2 * (half & whole).sum() / (half.sum() + whole.sum()) > 0.85


def test_polygons_against_an_obvious_oracle() -> None:
    from matplotlib.path import Path as Outline

    rng = np.random.default_rng(0)
    centres = np.indices((20, 17)).reshape(2, -1).T
    for _ in range(40):
        polygon = rng.uniform(-4, 22, (int(rng.integers(3, 9)), 2))
        angle = np.arctan2(*(polygon - polygon.mean(axis=0)).T)
        polygon = polygon[np.argsort(angle)]  # does not cross itself
        inside = Outline(polygon, closed=False).contains_points(centres).reshape(20, 17)
        assert (filled([polygon], (20, 17)) != inside).sum() == 0


def lacks(tag: str) -> Any:
    return lambda dataset: delattr(dataset, tag)


def sets(**tags: Any) -> Any:
    return lambda dataset: [setattr(dataset, name, value) for name, value in tags.items()]


def lifted(dataset: Any) -> None:
    for item in dataset.ROIContourSequence[0].ContourSequence:
        item.ContourData = [float(v) + 500 * (n % 3 == 2) for n, v in enumerate(item.ContourData)]


def leaning(dataset: Any) -> None:
    item = dataset.ROIContourSequence[0].ContourSequence[0]
    item.ContourData = [float(v) + n * 0.1 * (n % 3 == 2) for n, v in enumerate(item.ContourData)]


def cut(dataset: Any) -> None:
    dataset.ROIContourSequence[0].ContourSequence[0].ContourData.pop()


def shifted(dataset: Any) -> None:
    position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    position.ImagePositionPatient = [float(v) + 0.9 for v in position.ImagePositionPatient]


FAULTS: dict[str, tuple[str, Any, str]] = {
    "beyond the scan": ("rtstruct", lifted, "note Parotid L: its contours lie outside the scan, left out"),
    "oblique contours": (
        "rtstruct",
        leaning,
        "note Parotid L: its contours do not lie in the slices of the scan, left out",
    ),
    "no contours": ("rtstruct", lacks("ROIContourSequence"), ""),
    "no structures": ("rtstruct", lacks("StructureSetROISequence"), "label holds no structures"),
    "odd numbers": ("rtstruct", cut, "note Parotid L: its contours are damaged, left out"),
    "off the grid": ("seg", shifted, "label on another grid: its pixels do not lie on the voxels"),
    "no places": ("seg", lacks("PerFrameFunctionalGroupsSequence"), "label no position"),
    "pixels cut": ("seg", sets(PixelData=b"\0" * 10), "label truncated or damaged pixels"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_label_objects_are_told(tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind, change, words = FAULTS[fault]
    affine = affine_of(axes="LPS")
    for name in ("a", "b"):
        write_series(tmp_path / "scans" / name, head_like(SHAPE), affine)
    WRITERS[kind](tmp_path / "scans" / "label.dcm", tmp_path / "scans" / "a", STRUCTURES, affine, change=change)
    prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    reasons = [reason for _, _, reason in store.refused]
    if words.startswith("note "):
        assert words.removeprefix("note ") in store.case("a").notes
        assert store.case("a").structures == (2,)  # the rest is taken
    elif words:
        assert len(reasons) == 1
        assert reasons[0].startswith(words) or words in reasons[0]
        assert "\n" not in reasons[0]
    else:
        assert "the label is empty" in store.case("a").notes
    shown = capsys.readouterr()
    written = b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file())
    for word in PLANTED:
        assert word not in shown.out + shown.err
        assert word.encode() not in written


@pytest.mark.parametrize("kind", ["CLOSEDPLANAR_XOR", "CLOSEDPLANAR", "closed_planar", "INTERPOLATED_PLANAR"])
def test_types_of_closed_contours(tmp_path: Path, kind: str) -> None:
    def change(dataset: Any) -> None:
        for item in dataset.ROIContourSequence:
            for contour in item.ContourSequence:
                contour.ContourGeometricType = kind

    affine = affine_of(axes="LPS")
    write_series(tmp_path / "a", head_like(SHAPE), affine)
    ring = {"ring": sphere((11, 12, 10), 8.0) & ~sphere((11, 12, 10), 4.0)}
    header = read_header(tmp_path / "a")
    path = write_rtstruct(tmp_path / "one", tmp_path / "a", ring, affine, change=change)
    assert read_labels(path, header, {}).array.sum() == ring["ring"].sum()


def test_a_structure_that_reaches_beyond_the_scan_is_cut_there(tmp_path: Path) -> None:
    affine = affine_of(axes="LPS")
    write_series(tmp_path / "long", head_like(SHAPE), affine)
    path = write_rtstruct(tmp_path / "rt", tmp_path / "long", STRUCTURES, affine, names_series=False)
    write_series(tmp_path / "short", head_like(SHAPE)[:, :, :8], affine)
    header = read_header(tmp_path / "short")
    header.details["series"] = ""
    found = read_labels(path, header, {})
    masks = [mask[:, :, :8] for mask in STRUCTURES.values()]
    assert [int((found.array == n).sum()) for n in (1, 2)] == [int(mask.sum()) for mask in masks]
    assert any("reaches beyond the scan and is cut there" in note for note in found.notes)


def with_background(dataset: Any) -> None:
    background = Dataset()
    background.SegmentNumber, background.SegmentLabel = 0, "Background"
    dataset.SegmentSequence.insert(0, background)


def with_padding(dataset: Any) -> None:
    padding = Dataset()
    padding.SegmentNumber, padding.SegmentLabel = 9, "outside"
    dataset.SegmentSequence.append(padding)
    dataset.add_new("PixelPaddingValue", "US", 9)


@pytest.mark.parametrize("change", [with_background, with_padding])
def test_background_of_a_label_map_is_no_structure(tmp_path: Path, change: Any) -> None:
    affine = affine_of(axes="LPS")
    write_series(tmp_path / "a", head_like(SHAPE), affine)
    path = write_seg(tmp_path / "s.dcm", tmp_path / "a", STRUCTURES, affine, kind="LABELMAP", change=change)
    found = read_object(path)
    assert found is not None
    assert list(found.names.values()) == list(STRUCTURES)


def test_segmentations_of_one_series_are_joined_by_name(tmp_path: Path) -> None:
    affine = affine_of(axes="LPS")
    write_series(tmp_path / "scans" / "a", head_like(SHAPE), affine)
    for name, mask in STRUCTURES.items():  # one object a structure, as dcmqi and MONAI write them
        write_seg(tmp_path / "scans" / f"{name}.dcm", tmp_path / "scans" / "a", {name: mask}, affine)
    write_seg(tmp_path / "scans" / "z.dcm", tmp_path / "scans" / "a", {"cavity": STRUCTURES["Parotid L"]}, affine)
    prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert store.label_names == {1: "Parotid L", 2: "spinal cord", 3: "cavity"}
    assert store.case("a").structures
    assert "structures overlap" in store.case("a").notes
    assert prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)["added"] == 0
    write_seg(tmp_path / "scans" / "z.dcm", tmp_path / "scans" / "a", STRUCTURES, affine)
    prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)  # a further object that changes makes the case anew
    assert (
        "structures in several objects are joined: Parotid L, spinal cord" in Store.open(tmp_path / "s").case("a").notes
    )


def test_two_structure_sets_of_one_series_and_a_label_of_another(tmp_path: Path) -> None:
    affine = affine_of(axes="LPS")
    for name in ("a", "b"):
        write_series(tmp_path / "scans" / name, head_like(SHAPE), affine)
    for name in ("x", "y"):
        write_rtstruct(tmp_path / "scans" / f"{name}.dcm", tmp_path / "scans" / "a", STRUCTURES, affine)
    prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)
    assert Store.open(tmp_path / "s").refused[0][2].startswith("several labels: x.dcm, y.dcm; remove all but one")
    (tmp_path / "scans" / "list.csv").write_text("image,label\na,x.dcm\nb,x.dcm\n")
    prepare(tmp_path / "scans" / "list.csv", tmp_path / "t", OPTIONS)
    assert Store.open(tmp_path / "t").refused == [("b", "b", "label belongs to another series than its scan")]
