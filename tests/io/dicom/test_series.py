"""DICOM series: slices in their true order, faults reported, and no identifier shown."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dicom_files import PLANTED, write_enhanced, write_series
from scan_files import affine_of, head_like, oblique, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.geometry import apply_affine
from alice3d.io.read import read_header, read_scan
from alice3d.io.volume import ScanError


def same_place(volume: Any, array: Any, affine: Any) -> None:
    """The same voxels at the same places, whatever the direction in which slices are stacked."""
    bright = apply_affine(volume.affine, np.argwhere(volume.array > 700).mean(axis=0))
    np.testing.assert_allclose(bright, apply_affine(affine, np.argwhere(array > 700).mean(axis=0)), atol=1e-3)
    flipped = np.linalg.det(volume.affine[:3, :3]) * np.linalg.det(affine[:3, :3]) < 0
    np.testing.assert_array_equal(volume.array[:, :, ::-1] if flipped else volume.array, array)


@pytest.mark.parametrize("place", ["LPS", "RAS", "PLI", "LSA", "oblique"])
def test_series_is_read_to_its_true_place(tmp_path: Path, place: str) -> None:
    affine = oblique() if place == "oblique" else affine_of(axes=place)
    write_series(tmp_path / "ct", head_like(), affine)
    volume = read_scan(tmp_path / "ct")
    same_place(volume, head_like(), affine)
    assert volume.array.dtype == np.int16
    assert volume.notes == ()


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    affine = affine_of(axes="LPS")
    same_place(read_scan(write_enhanced(tmp_path / "one" / "a.dcm", head_like(), affine)), head_like(), affine)
    same_place(read_scan(tmp_path / "one"), head_like(), affine)


def test_fractions_and_slices_of_different_slope(tmp_path: Path) -> None:
    def change(dataset: Any, k: int) -> None:
        if k == 4:
            stored = np.frombuffer(dataset.PixelData, np.uint16)
            dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1024 - 0
            dataset.PixelData = ((stored // 2).astype(np.uint16)).tobytes()

    write_series(tmp_path / "ct", head_like(), affine_of(axes="LPS"), change=change)
    assert np.abs(read_scan(tmp_path / "ct").array - head_like()).max() <= 1
    write_series(tmp_path / "half", head_like(), affine_of(axes="LPS"), slope=0.5)
    np.testing.assert_array_equal(read_scan(tmp_path / "half").array, head_like())


def test_gantry_tilt_is_a_sheared_affine_and_resampled_truly(tmp_path: Path) -> None:
    affine = affine_of((2.0, 2.0, 2.5), axes="LPS")
    affine[:3, 2] += [0, 0.6, 0]
    write_series(tmp_path / "ct", head_like((30, 30, 24)), affine)
    header = read_header(tmp_path / "ct")
    np.testing.assert_allclose(header.affine, affine, atol=1e-4)
    assert "gantry tilt of 13.5 degrees, corrected" in header.notes
    prepare(tmp_path / "ct", tmp_path / "s", PrepareOptions(spacing_mm=(2.0, 2.0, 2.0), modality="ct"))
    store = Store.open(tmp_path / "s")
    case = store.cases()[0]
    expected = apply_affine(affine, np.argwhere(head_like((30, 30, 24)) > 700).mean(axis=0))
    found = case.grid.world(np.argwhere(store.image(case.id)[:] > 500).mean(axis=0))
    np.testing.assert_allclose(found, expected, atol=0.8)


def tag(name: str, value: Any, only: int | None = None) -> dict[str, Any]:
    def change(dataset: Any, k: int) -> None:
        if only is None or k == only:
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)

    return {"change": change}


def moved(slices: dict[int, float]) -> dict[str, Any]:
    def change(dataset: Any, k: int) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + slices.get(k, 0.0)]

    return {"change": change}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "missing slice": ({"skip": (9,)}, "missing slices: 5 mm after slice 9 where the spacing is 2.5 mm"),
    "two missing": ({"skip": (5, 6)}, "missing slices: 7.5 mm"),
    "unequal gaps": (moved({k: 0.4 * k for k in range(12, 20)}), "missing slices|unequal slice gaps"),
    "one slice moved": (moved({7: 0.9}), "unequal slice gaps: 1.6 to 3.4 mm"),
    "duplicated slice": (
        moved({7: 2.5}),
        r"conflicting slices: 0\d\d.dcm and 0\d\d.dcm lie at one position \(z 50 mm\)",
    ),
    "sideways": (tag("ImagePositionPatient", [90, 90, 30 + 2.5 * 8], only=8), "straight line|unequal|duplicated"),
    "no position": (tag("ImagePositionPatient", None, only=3), "ImagePositionPatient is missing"),
    "no orientation": (tag("ImageOrientationPatient", None), "ImageOrientationPatient is missing"),
    "no spacing": (tag("PixelSpacing", None), "PixelSpacing is missing"),
    "zero spacing": (tag("PixelSpacing", [0, 2]), "bad spacing: PixelSpacing is 0 x 2"),
    "absurd spacing": (tag("PixelSpacing", [2000, 2000]), "voxel size"),
    "mixed spacing": (tag("PixelSpacing", [1, 1], only=2), "different pixel spacing"),
    "mixed orientation": (tag("ImageOrientationPatient", [0, 1, 0, 0, 0, 1], only=2), "different orientations"),
    "crooked axes": (tag("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "no two perpendicular"),
    "colours": (tag("PhotometricInterpretation", "RGB"), "RGB; one value"),
    "inverted": (tag("PhotometricInterpretation", "MONOCHROME1"), "MONOCHROME1; one value"),
    "other size": (tag("Rows", 13, only=1), "different sizes"),
    "pixels cut": (tag("PixelData", b"\0" * 100, only=6), "truncated or damaged pixels"),
    "one slice": ({"skip": tuple(range(1, 20))}, "too thin"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_series_are_told(tmp_path: Path, fault: str) -> None:
    settings, words = FAULTS[fault]
    write_series(tmp_path / "ct", head_like(), affine_of(axes="LPS"), **settings)
    with pytest.raises(ScanError, match=words) as error:
        read_scan(tmp_path / "ct")
    assert "\n" not in str(error.value)
    assert not [word for word in PLANTED if word in str(error.value)]


def test_copies_of_slices_are_dropped_with_a_note(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "ct", head_like(), affine_of(axes="LPS"))
    (tmp_path / "ct" / "copy").write_bytes(paths[3].read_bytes())
    volume = read_scan(tmp_path / "ct")
    assert volume.array.shape == head_like().shape
    assert "1 slices are exact copies" in volume.notes[0]


def test_truncated_file_in_a_series(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "ct", head_like(), affine_of(axes="LPS"))
    paths[5].write_bytes(paths[5].read_bytes()[:-300])
    with pytest.raises(ScanError, match="truncated or damaged pixels"):
        read_scan(tmp_path / "ct")


def test_mixed_folder_becomes_cases_by_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two series in one folder, one in another; overview pictures, captures, reformats and reports are no scans."""
    scans, lps = tmp_path / "scans", affine_of(axes="LPS")
    write_series(scans / "p1", head_like(seed=1), lps, number=2, name="a{:03d}")
    write_series(scans / "p1", head_like(seed=2), lps, number=3, name="b{:03d}.IMA")
    write_series(scans / "p2" / "ct", head_like(seed=3), lps, number=4)

    def localiser(dataset: Any, k: int) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    def capture(dataset: Any, k: int) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"

    def reformat(dataset: Any, k: int) -> None:
        dataset.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"]

    def report(dataset: Any, k: int) -> None:
        dataset.Modality = "SR"

    write_series(scans / "p2" / "a", head_like((24, 26, 2)), lps, change=localiser)
    write_series(scans / "p2" / "b", head_like((24, 26, 2)), lps, change=capture)
    write_series(scans / "p2" / "c", head_like(), affine_of(axes="LSA"), change=reformat)
    write_series(scans / "p2" / "d", head_like((24, 26, 2)), lps, change=report)
    (scans / "p2" / "ct" / "notes.txt").write_text("hello")
    (scans / "p2" / "cut.dcm").write_bytes(b"")
    result = prepare(scans, tmp_path / "s")
    store = Store.open(tmp_path / "s")
    assert [case.id for case in store.cases()] == ["p1_s2", "p1_s3", "p2_ct"]
    assert store.case("p1_s2").source == "p1 (series 2)"
    reasons = {name: reason.split(":")[0] for name, _, reason in store.refused}
    assert reasons == {
        "p2_a": "localiser",
        "p2_b": "secondary capture",
        "p2_c": "derived reformat",
        "cut.dcm": "empty file",
    }
    assert result["taken"] == 3
    assert "2 DICOM objects without images are left out (2 SR)" in capsys.readouterr().err


def test_two_series_in_one_folder_are_never_mixed_by_read_scan(tmp_path: Path) -> None:
    for number in (1, 2):
        write_series(
            tmp_path / "ct", head_like(seed=number), affine_of(axes="LPS"), number=number, name=f"{number}_{{}}.dcm"
        )
    with pytest.raises(ScanError, match="2 series in one folder"):
        read_scan(tmp_path / "ct")


def test_compressed_syntax_without_a_decoder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pydicom.uid import MPEG2MPML, JPEG2000Lossless, RLELossless

    from alice3d.io.dicom import series

    def change(dataset: Any, k: int) -> None:
        dataset.compress(RLELossless)

    write_series(tmp_path / "rle", head_like(), affine_of(axes="LPS"), change=change)
    same_place(read_scan(tmp_path / "rle"), head_like(), affine_of(axes="LPS"))

    def video(dataset: Any, k: int) -> None:
        dataset.file_meta.TransferSyntaxUID = MPEG2MPML

    write_series(tmp_path / "video", head_like(), affine_of(axes="LPS"), change=lambda dataset, k: None)
    paths = sorted((tmp_path / "video").iterdir())
    import pydicom

    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)

    class NoDecoder:
        is_available = False

    monkeypatch.setattr(series, "get_decoder", lambda _: NoDecoder)
    with pytest.raises(ScanError, match="no decoder for JPEG 2000"):
        read_header(tmp_path / "video")


def test_no_identifier_reaches_anything_that_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Names, numbers and dates planted in tags, in NIfTI descriptions and in paths above the given folder."""
    scans = tmp_path / "DOE^JANE_19530317" / "scans"
    lps = affine_of(axes="LPS")
    write_series(scans / "p1", head_like(), lps, prefix="1.2.999.4711.")
    write_series(scans / "p2", head_like(seed=1), lps, skip=(4,), prefix="1.2.999.4711.")
    write_series(scans / "p3", head_like(seed=2), lps, prefix="1.2.999.4711.", **tag("PixelData", b"\0" * 10, only=2))
    write_series(scans / "p4", head_like(seed=2), lps, prefix="1.2.999.4711.", **tag("Modality", "DOE^JANE"))
    image = nib.Nifti1Image(head_like(seed=3), affine_of())
    image.header["descrip"], image.header["db_name"] = b"DOE^JANE 19530317", b"PID-4711"
    image.header["intent_name"], image.header["aux_file"] = b"StMaryHospital", b"ACC0815"
    nib.save(image, scans / "plain.nii.gz")
    write_nifti(scans / "bad.nii", np.zeros((4, 4, 4), np.int16))
    caplog.clear()
    with warnings.catch_warnings(record=True) as warned:
        prepare(scans, tmp_path / "s", PrepareOptions(spacing_mm=(3.0, 3.0, 3.0)))
    assert not warned
    shown = capsys.readouterr()
    everything = {"log": (shown.out + shown.err + caplog.text).encode()}
    everything |= {str(path): path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file()}
    assert len(everything) > 6
    for where, content in everything.items():
        for word in PLANTED:
            assert word.encode() not in content, (where, word)
