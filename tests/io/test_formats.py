"""NRRD and MetaImage: the same values and positions as in SimpleITK, and faults in one line."""

from __future__ import annotations

import bz2
import contextlib
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scan_files import affine_of, head_like, oblique, write_nrrd

from alice3d.geometry import apply_affine, spacing_of
from alice3d.io.read import case_id, read_header, read_scan
from alice3d.io.volume import ScanError

itk: Any = pytest.importorskip("SimpleITK")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_itk(path: Path, array: NDArray[Any], affine: NDArray[Any], compress: bool = True) -> Path:
    """Write by SimpleITK: an array (i, j, k) and its affine to RAS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = itk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = LPS @ affine
    image.SetSpacing(spacing_of(lps).tolist())
    image.SetDirection((lps[:3, :3] / spacing_of(lps)).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    itk.WriteImage(image, str(path), compress)
    return path


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.nii.gz", "a.nii"])
@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("place", ["RAS", "PLI", "LPS", "oblique"])
def test_every_format_says_the_same_as_simpleitk_wrote(tmp_path: Path, name: str, compress: bool, place: str) -> None:
    affine = oblique() if place == "oblique" else affine_of(axes=place)
    volume = read_scan(write_itk(tmp_path / name, head_like(), affine, compress))
    np.testing.assert_array_equal(volume.array, head_like())
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    bright = np.argwhere(volume.array > 700).mean(axis=0)  # the sphere lies at low i, j and k
    expected = apply_affine(affine, np.argwhere(head_like() > 700).mean(axis=0))
    np.testing.assert_allclose(apply_affine(volume.affine, bright), expected, atol=1e-3)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u4", "f4", "f8", "i8"])
def test_every_type_of_number(tmp_path: Path, name: str, dtype: str) -> None:
    image = (head_like() // 16 + 64).astype(dtype)
    np.testing.assert_array_equal(read_scan(write_itk(tmp_path / name, image, affine_of())).array, image)


@pytest.mark.parametrize("key", ["dim[0]", "0008|0060", "ITK_FileNotes"])
def test_metaimage_keeps_what_the_first_format_said(tmp_path: Path, key: str) -> None:
    path = write_itk(tmp_path / "a.mha", head_like(), affine_of())
    image = itk.ReadImage(str(path))
    image.SetMetaData(key, "of another format")
    itk.WriteImage(image, str(tmp_path / "b.mha"))
    assert key.encode() in (tmp_path / "b.mha").read_bytes()[:2000]
    np.testing.assert_array_equal(read_scan(tmp_path / "b.mha").array, head_like())


def test_spaces_units_and_encodings_of_nrrd(tmp_path: Path) -> None:
    image = head_like((6, 7, 5))
    lps = read_scan(write_nrrd(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(lps.array, image)
    np.testing.assert_allclose(lps.affine, [[-2, 0, 0, -1], [0, -2, 0, -2], [0, 0, 3, 3], [0, 0, 0, 1]])
    ras = read_scan(write_nrrd(tmp_path / "a.nrrd", space="RAS"))
    np.testing.assert_allclose(ras.affine, [[2, 0, 0, 1], [0, 2, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])
    las = read_scan(write_nrrd(tmp_path / "a.nrrd", space="left-anterior-superior"))
    np.testing.assert_allclose(las.affine, [[-2, 0, 0, -1], [0, 2, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1]])
    cm = read_scan(write_nrrd(tmp_path / "a.nrrd", space_units='"cm" "cm" "cm"'))
    assert spacing_of(cm.affine).tolist() == [20, 20, 30]
    for encoding, pack in (("gzip", gzip.compress), ("bzip2", bz2.compress)):
        packed = pack(image.tobytes(order="F"))
        np.testing.assert_array_equal(
            read_scan(write_nrrd(tmp_path / "a.nrrd", data=packed, encoding=encoding)).array, image
        )
    big = image.astype(">i2").tobytes(order="F")
    np.testing.assert_array_equal(read_scan(write_nrrd(tmp_path / "a.nrrd", data=big, endian="big")).array, image)
    skipped = b"first line\n" + b"xx" + image.tobytes(order="F")
    path = write_nrrd(tmp_path / "a.nrrd", data=skipped, line_skip="1", byte_skip="2")
    np.testing.assert_array_equal(read_scan(path).array, image)
    path = write_nrrd(tmp_path / "a.nrrd", data=b"junk" + image.tobytes(order="F"), byte_skip="-1")
    np.testing.assert_array_equal(read_scan(path).array, image)
    four = {"dimension": "4", "sizes": "1 6 7 5", "space_directions": "none (2,0,0) (0,2,0) (0,0,3)"}
    np.testing.assert_array_equal(read_scan(write_nrrd(tmp_path / "a.nrrd", **four)).array, image)
    plain = write_nrrd(tmp_path / "a.nrrd", space="", space_directions="", space_origin="", spacings="2 2 3")
    assert np.diag(read_header(plain, unoriented="las").affine).tolist() == [-2, 2, 3, 1]


NRRD_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "short": ({"data": b"\0" * 100}, "file too short"),
    "1 TB": ({"sizes": "10000 10000 10000"}, "too large"),
    "zero side": ({"sizes": "6 0 5"}, "bad dimensions"),
    "letters": ({"sizes": "6 x 5"}, "sizes is '6 x 5'"),
    "rank": ({"dimension": "2"}, "bad header"),
    "2D": ({"dimension": "2", "sizes": "6 7", "space_directions": "(2,0,0) (0,2,0)"}, "2D image"),
    "colours": ({"dimension": "4", "sizes": "3 6 7 5", "space_directions": "none (2,0,0) (0,2,0) (0,0,3)"}, "4D image"),
    "type": ({"type": "block"}, "unsupported voxel type"),
    "encoding": ({"encoding": "ascii"}, "unsupported encoding"),
    "zero spacing": ({"space_directions": "(0,0,0) (0,2,0) (0,0,3)"}, "bad spacing"),
    "NaN spacing": ({"space_directions": "(nan,0,0) (0,2,0) (0,0,3)"}, "bad spacing"),
    "word spacing": ({"space_directions": "(two,0,0) (0,2,0) (0,0,3)"}, "bad header"),
    "absurd spacing": ({"space_directions": "(2000,0,0) (0,2,0) (0,0,3)"}, "voxel size 2000"),
    "singular": ({"space_directions": "(2,0,0) (2,0,0) (0,0,3)"}, "singular"),
    "no space": ({"space": ""}, "no orientation"),
    "no spacing": ({"space_directions": ""}, "neither space directions nor spacings"),
    "unit": ({"space_units": '"furlong" "mm" "mm"'}, "unknown unit"),
    "origin": ({"space_origin": "(1,2)"}, "space origin"),
    "gzip": ({"encoding": "gzip"}, "truncated or damaged gzip"),
    "bzip2": ({"encoding": "bzip2"}, "truncated or damaged bzip2"),
    "list": ({"data_file": "LIST"}, "several files"),
    "outside": ({"data_file": "../secret.raw"}, "another folder"),
    "absolute": ({"data_file": "/etc/passwd"}, "another folder"),
    "missing half": ({"data_file": "a.raw"}, "header without its data file"),
    "byte skip": ({"byte_skip": "-7"}, "byte skip is -7"),
    "line skip": ({"line_skip": "some"}, "line skip is 'some'"),
    "endless line skip": ({"line_skip": "999999999999"}, "line skip is 999999999999, the file ends after"),
}


@pytest.mark.parametrize("fault", NRRD_FAULTS)
def test_faults_of_nrrd(tmp_path: Path, fault: str) -> None:
    fields, words = NRRD_FAULTS[fault]
    with pytest.raises(ScanError, match=words) as error:
        read_scan(write_nrrd(tmp_path / "a.nrrd", **fields))
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


def mha(path: Path, *, data: bytes | None = None, **fields: str) -> Path:
    """Write a MetaImage by hand; a field of value "" is left out."""
    header = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "1 2 3",
        "ElementSpacing": "2 2 3",
        "DimSize": "6 7 5",
        "ElementType": "MET_SHORT",
        **fields,
    }
    last = header.pop("ElementDataFile", "LOCAL")
    lines = [f"{key} = {value}" for key, value in header.items() if value] + (
        [f"ElementDataFile = {last}"] if last else []
    )
    content = head_like((6, 7, 5)).tobytes(order="F") if data is None else data
    path.write_bytes("\n".join(lines).encode() + b"\n" + content)
    return path


MHA_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "short": ({"data": b"\0" * 100}, "file too short"),
    "1 TB": ({"DimSize": "10000 10000 10000"}, "too large"),
    "beyond any number": ({"DimSize": "1e300 1e300 6"}, r"too large: .* more than 10\^9 x more than 10\^9 x 6 voxels"),
    "zero side": ({"DimSize": "6 0 5"}, "bad dimensions"),
    "half a voxel": ({"DimSize": "6 7.5 5"}, "bad header"),
    "letters": ({"DimSize": "six 7 5"}, "DimSize is 'six 7 5'"),
    "no sides": ({"DimSize": ""}, "DimSize is missing"),
    "rank": ({"NDims": "4"}, "bad header"),
    "2D": (
        {"NDims": "2", "DimSize": "6 7", "ElementSpacing": "1 1", "Offset": "0 0", "TransformMatrix": "1 0 0 1"},
        "2D",
    ),
    "colours": ({"ElementNumberOfChannels": "3"}, "3 values per voxel"),
    "type": ({"ElementType": "MET_STRING"}, "unsupported voxel type"),
    "text": ({"BinaryData": "False"}, "voxels as text"),
    "zero spacing": ({"ElementSpacing": "0 2 3"}, "ElementSpacing is '0 2 3'"),
    "negative spacing": ({"ElementSpacing": "-2 2 3"}, "bad spacing"),
    "NaN spacing": ({"ElementSpacing": "nan 2 3"}, "bad spacing"),
    "absurd spacing": ({"ElementSpacing": "2 2 3000"}, "voxel size"),
    "singular": ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "singular"),
    "matrix": ({"TransformMatrix": "1 0 0 1"}, "holds 4 numbers, expected 9"),
    "origin": ({"Offset": "1 2"}, "origin holds 2"),
    "zlib": ({"CompressedData": "True"}, "truncated or damaged zlib"),
    "list": ({"ElementDataFile": "LIST"}, "several files"),
    "outside": ({"ElementDataFile": "../secret.raw"}, "another folder"),
    "missing half": ({"ElementDataFile": "a.raw"}, "header without its data file"),
    "no end": ({"ElementDataFile": ""}, "no ElementDataFile|does not end"),
    "no header": ({"ObjectType": "", "NDims": "", "DimSize": "", "ElementDataFile": ""}, "not a MetaImage file"),
}


@pytest.mark.parametrize("fault", MHA_FAULTS)
def test_faults_of_metaimage(tmp_path: Path, fault: str) -> None:
    fields, words = MHA_FAULTS[fault]
    with pytest.raises(ScanError, match=words) as error:
        read_scan(mha(tmp_path / "a.mha", **fields))
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_truncated_files_never_give_wrong_voxels(tmp_path: Path, name: str, share: float) -> None:
    path = write_itk(tmp_path / name, head_like(), affine_of())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ScanError, match=r"empty file|truncated|too short|bad header|not an? \w+ file"):
        read_scan(path)


def test_slicer_segmentations_lose_their_double_ending() -> None:
    assert case_id(Path("p01.seg.nrrd")) == "p01"


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_damaged_headers_never_end_in_a_traceback(tmp_path: Path, name: str) -> None:
    whole = (write_nrrd if name == "a.nrrd" else mha)(tmp_path / name).read_bytes()

    @given(st.data())
    @settings(max_examples=500, deadline=None)
    def damaged(data: st.DataObject) -> None:
        content = bytearray(whole)
        for at in data.draw(st.lists(st.integers(0, 250), min_size=1, max_size=6)):
            content[at % len(content)] = data.draw(st.sampled_from(list(b"0123456789-.,()ax: =\n\0\xff")))
        (tmp_path / name).write_bytes(content)
        with contextlib.suppress(ScanError):
            volume = read_scan(tmp_path / name)
            assert volume.array.ndim == 3
            assert np.isfinite(volume.affine).all()

    damaged()
