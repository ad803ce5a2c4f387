"""Which slices are one scan: by patient, study, series and frame of reference together, never by one UID."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import write_series
from dicom_label_files import write_seg
from scan_files import affine_of, head_like

from alice3d.data.sources.sources import plain_sources
from alice3d.io.read import read_header, read_scan
from alice3d.io.volume import ScanError

LPS = affine_of(axes="LPS")
UID = "1.2.3.4"


def above(slices: int) -> Any:
    """The place of a volume that begins where `slices` slices end."""
    affine = LPS.copy()
    affine[2, 3] += 2.5 * slices
    return affine


def with_tags(**tags: Any) -> Callable[[Any, int], None]:
    return lambda dataset, k: [setattr(dataset, name, value) for name, value in tags.items()] and None


def lengths(folder: Path) -> dict[str, int]:
    """Id to number of files, of the scans that are taken."""
    return {source.id: len(source.files or ()) for source in plain_sources(folder).sources if not source.fault}


@pytest.mark.parametrize("tag", ["PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "Modality"])
@pytest.mark.parametrize("folders", [("a", "b"), ("a", "a")])
def test_one_series_uid_of_two_scans(tmp_path: Path, tag: str, folders: tuple[str, str]) -> None:
    for place, (folder, name) in enumerate(zip(folders, ("x", "y"), strict=True)):
        change = with_tags(**{"FrameOfReferenceUID": "1.7", tag: f"MR{place}" if tag == "Modality" else f"1.9.{place}"})
        image = head_like((12, 14, 6), seed=place)
        write_series(tmp_path / folder, image, above(6 * place), series=UID, change=change, name=f"{name}{{:03d}}")
    assert sorted(lengths(tmp_path).values()) == [6, 6]


def test_padding_case_and_missing_tags_are_no_difference(tmp_path: Path) -> None:
    said = ["ID7", " id7 ", "ID7", ""]

    def change(dataset: Any, k: int) -> None:
        dataset.PatientID, dataset.FrameOfReferenceUID = said[k % 4], "1.7" if k else ""
        dataset.PatientName = "DOE^JANE^^^" if k % 2 else "Doe^Jane"

    write_series(tmp_path / "a", head_like((12, 14, 8)), LPS, series=UID, change=change)
    assert lengths(tmp_path) == {"a": 8}


def test_identifiers_that_change_with_every_slice_are_told(tmp_path: Path) -> None:
    def change(dataset: Any, k: int) -> None:
        dataset.FrameOfReferenceUID = f"1.7.{k}"

    write_series(tmp_path / "a", head_like((12, 14, 8)), LPS, series=UID, change=change)
    (source,) = plain_sources(tmp_path).sources
    assert source.fault.startswith("identifiers change from slice to slice")


@pytest.mark.parametrize("group", [1, 2, 8])
def test_repeated_sop_instance_uids_drop_no_slice(tmp_path: Path, group: int) -> None:
    image = head_like((12, 14, 8))
    write_series(tmp_path, image, LPS, change=lambda d, k: setattr(d, "SOPInstanceUID", f"1.5.{k // group}"))
    np.testing.assert_array_equal(read_scan(tmp_path).array, image)


@pytest.mark.parametrize("whole", [False, True])
def test_exact_copies_are_dropped_whatever_their_uid(tmp_path: Path, whole: bool) -> None:
    image = head_like((12, 14, 8))
    write_series(tmp_path / "a", image, LPS, series=UID)
    skip = () if whole else tuple(k for k in range(8) if k != 5)
    write_series(tmp_path / "a" / "again", image, LPS, series=UID, skip=skip)
    volume = read_scan(tmp_path / "a")
    np.testing.assert_array_equal(volume.array, image)
    assert volume.notes == (
        f"{8 if whole else 1} slices are exact copies of others (same position, same pixels), dropped",
    )


def test_a_true_conflict_names_place_and_files(tmp_path: Path) -> None:
    image = head_like((12, 14, 8))
    write_series(tmp_path / "a", image, LPS, series=UID, name="x{:03d}")
    write_series(tmp_path / "b", image + 1, LPS, series=UID, name="y{:03d}", skip=tuple(k for k in range(8) if k != 5))
    words = r"conflicting slices: a/x\d{3} and b/y\d{3} lie at one position \(z 42.5 mm\) and differ"
    with pytest.raises(ScanError, match=words) as error:
        read_header(tmp_path)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize(
    ("tag", "values", "words"),
    [
        ("EchoTime", (2.3, 4.6), "echo time"),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]), "type of image"),
        ("AcquisitionNumber", (1, 2), "acquisition number"),
    ],
)
def test_several_volumes_of_one_series_are_told_by_what_differs(
    tmp_path: Path, tag: str, values: tuple[Any, Any], words: str
) -> None:
    for place, value in enumerate(values):
        image = head_like((12, 14, 8), seed=place)
        write_series(tmp_path, image, LPS, series=UID, name=f"{place}{{:03d}}", change=with_tags(**{tag: value}))
    with pytest.raises(ScanError, match=f"several volumes in one series, by {words}"):
        read_header(tmp_path)


def test_pixels_are_read_for_slices_at_one_position_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alice3d.io.dicom import series

    opened = []
    real = series.pixels_of
    monkeypatch.setattr(series, "pixels_of", lambda *words: (opened.append(1), real(*words))[1])
    paths = write_series(tmp_path, head_like((12, 14, 8)), LPS)
    read_header(tmp_path)
    assert not opened
    (tmp_path / "copy").write_bytes(paths[3].read_bytes())
    read_header(tmp_path)
    assert len(opened) == 2


def test_a_segmentation_goes_to_its_own_patient(tmp_path: Path) -> None:
    mask = {"cord": head_like((12, 14, 6)) > 0}
    for place, name in enumerate("ab"):
        change = with_tags(PatientID=name, FrameOfReferenceUID=f"1.7.{place}")
        write_series(tmp_path / name, head_like((12, 14, 6), seed=place), LPS, series=UID, change=change)
    write_seg(tmp_path / "s.dcm", tmp_path / "b", mask, LPS, change=lambda d: setattr(d, "PatientID", "b"))
    assert {s.id: s.label_name for s in plain_sources(tmp_path).sources} == {"a": "", "b": "s.dcm"}
    write_seg(tmp_path / "s.dcm", tmp_path / "b", mask, LPS, change=lambda d: setattr(d, "PatientID", "c"))
    assert not any(s.label for s in plain_sources(tmp_path).sources)


def test_positions_with_one_decimal_are_an_even_grid(tmp_path: Path) -> None:
    def rounded(dataset: Any, k: int) -> None:
        x, y, _ = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, round(-40.05 + 0.625 * k, 1)]

    image = head_like((12, 14, 40))
    write_series(tmp_path / "a", image, LPS, change=rounded)
    header = read_header(tmp_path / "a")
    np.testing.assert_allclose(header.affine[2, 2], 0.625, atol=1e-3)
    assert header.notes == ("slice positions lie up to 0.041 mm off an even grid",)
    for gap in (1, 7, 20, 38):
        write_series(tmp_path / f"b{gap}", image, LPS, change=rounded, skip=(gap,))
        with pytest.raises(ScanError, match="missing slices"):
            read_header(tmp_path / f"b{gap}")


def test_mosaics_are_told_as_mosaics(tmp_path: Path) -> None:
    write_series(tmp_path / "a", head_like((12, 14, 2)), LPS, change=with_tags(ImageType=["ORIGINAL", "MOSAIC"]))
    write_series(tmp_path / "b", head_like((12, 14, 2)), LPS, change=lambda d, k: d.add_new(0x00651050, "DS", "36"))
    assert all(source.fault.startswith("a mosaic") for source in plain_sources(tmp_path).sources)


@pytest.mark.parametrize("name", ["I{:03d}.img", "I{:03d}.hdr", "IM{:04d}", "1.2.{}", "{:03d}.dcm"])
@pytest.mark.parametrize("bare", [False, True])
def test_dicom_is_known_by_its_content(tmp_path: Path, name: str, bare: bool) -> None:
    image = head_like((12, 14, 6))
    for path in write_series(tmp_path / "a", image, LPS, name=name):
        if bare:  # neither preamble nor prefix
            path.write_bytes(path.read_bytes()[132:])
    assert lengths(tmp_path) == {"a": 6}
    np.testing.assert_array_equal(read_scan(tmp_path / "a").array, image)


@pytest.mark.parametrize("meta", [True, False])
def test_a_missing_sop_class_is_no_reason_to_refuse(tmp_path: Path, meta: bool) -> None:
    import pydicom

    image = head_like((12, 14, 6))
    for path in write_series(tmp_path / "a", image, LPS):
        dataset = pydicom.dcmread(path)
        del dataset.SOPClassUID
        if not meta:
            del dataset.file_meta.MediaStorageSOPClassUID
        dataset.save_as(path, enforce_file_format=False)
    np.testing.assert_array_equal(read_scan(tmp_path / "a").array, image)


def test_other_files_are_not_taken_for_dicom(tmp_path: Path) -> None:
    from alice3d.io.dicom.detect import is_dicom

    rng = np.random.default_rng(0)
    for n, content in enumerate([b"", b"\0" * 400, b"hello world " * 20, b"\x08\0\0\0" * 50, rng.bytes(4000)]):
        (tmp_path / f"f{n}").write_bytes(content)
        assert not is_dicom(tmp_path / f"f{n}")
