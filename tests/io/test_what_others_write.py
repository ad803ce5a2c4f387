"""Files as other programs write them: fields, packing, axes and volumes that are sound but less common."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scan_files import affine_of, head_like, write_nifti, write_nrrd

from alice3d.io.read import read_header, read_label, read_scan
from alice3d.io.volume import ScanError

IMAGE = head_like((6, 7, 5))
BYTES = IMAGE.tobytes(order="F")


def meta(path: Path, data: bytes, extra: str = "", **fields: str) -> Path:
    """Write a MetaImage header, with its voxels behind it where they are LOCAL."""
    said = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "Offset": "1 2 3", "ElementSpacing": "2 2 3"}
    said |= {"DimSize": "6 7 5", "ElementType": "MET_SHORT", **fields}
    last = said.pop("ElementDataFile", "LOCAL")
    lines = "".join(f"{key} = {value}\n" for key, value in said.items() if value)
    text = f"{lines}{extra}ElementDataFile = {last}\n".encode()
    path.write_bytes(text + (data if last == "LOCAL" else b""))
    return path


@pytest.mark.parametrize(
    "extra", ["dim[0] = 3\n", "0008|0060 = CT\n", "my key = a = b\n", "Comment = one\ntwo\n\nthree\n", "Größe = 3\n"]
)
def test_metaimage_fields_of_others_are_skipped(tmp_path: Path, extra: str) -> None:
    np.testing.assert_array_equal(read_scan(meta(tmp_path / "a.mha", BYTES, extra)).array, IMAGE)


@pytest.mark.parametrize("name", ["my scan of patient one.raw", "50 % a b c.raw", "größe.raw"])
def test_metaimage_names_one_file_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BYTES)
    np.testing.assert_array_equal(read_scan(meta(tmp_path / "a.mhd", b"", ElementDataFile=name)).array, IMAGE)


@pytest.mark.parametrize("name", ["slice%03d.raw 1 5 1", "LIST", "LIST 2"])
def test_metaimage_in_several_files_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ScanError, match="voxels in several files"):
        read_header(meta(tmp_path / "a.mhd", b"", ElementDataFile=name))


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_metaimage_packed_by_zlib_or_gzip(tmp_path: Path, pack: Any) -> None:
    packed = meta(tmp_path / "a.mha", pack(BYTES), CompressedData="True")
    np.testing.assert_array_equal(read_scan(packed).array, IMAGE)
    (tmp_path / "a.raw.gz").write_bytes(pack(BYTES))
    beside = meta(tmp_path / "a.mhd", b"", CompressedData="True", ElementDataFile="a.raw.gz")
    np.testing.assert_array_equal(read_scan(beside).array, IMAGE)
    meta(tmp_path / "a.mha", pack(BYTES)[:-3], CompressedData="True")
    with pytest.raises(ScanError, match="truncated or damaged"):
        read_scan(tmp_path / "a.mha")


def test_metaimage_without_spacing_is_told_by_the_name_that_itk_writes(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="bad spacing: ElementSpacing is missing"):
        read_header(meta(tmp_path / "a.mha", BYTES, ElementSpacing=""))
    sized = meta(tmp_path / "a.mha", BYTES, ElementSpacing="", ElementSize="2 2 3")
    np.testing.assert_allclose(np.abs(np.diag(read_header(sized).affine)), [2, 2, 3, 1])


def test_bytes_after_a_sound_gzip_stream(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", head_like(), affine_of())
    sound = path.read_bytes()
    for tail, noted in ((b"some bytes more", True), (b"\0" * 512, False), (b"\0" * 300000 + b"x", True), (b"", False)):
        path.write_bytes(sound + tail)
        volume = read_scan(path)
        np.testing.assert_array_equal(volume.array, head_like())
        assert any("after the end" in note for note in volume.notes) == noted
    for broken in (sound[:-1], sound[:-8], sound[: len(sound) // 2], sound[:-8] + b"\1" * 8, sound[:-6] + b"\1\1tail"):
        path.write_bytes(broken)
        with pytest.raises(ScanError, match="truncated or damaged gzip"):
            read_scan(path)


def test_gzip_of_several_members(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", head_like(), affine_of())
    content = path.read_bytes()
    parts = [content[:1000], content[1000:9000], content[9000:]]
    (tmp_path / "b.nii.gz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    np.testing.assert_array_equal(read_scan(tmp_path / "b.nii.gz").array, head_like())


SPACE = "(2,0,0) (0,2,0) (0,0,3)"
TIMED = "(2,0,0,0) (0,2,0,0) (0,0,3,0)"
ONE_VOLUME = {
    "list none": {"sizes": "1 6 7 5", "space_directions": f"none {SPACE}"},
    "list nan": {"sizes": "1 6 7 5", "space_directions": f"(nan,nan,nan) {SPACE}"},
    "list last": {"sizes": "6 7 5 1", "space_directions": f"{SPACE} none"},
    "list between": {"sizes": "6 1 7 5", "space_directions": "(2,0,0) none (0,2,0) (0,0,3)"},
    "time": {
        "sizes": "6 7 5 1",
        "space": "left-posterior-superior-time",
        "space_directions": f"{TIMED} (0,0,0,1)",
        "space_origin": "(1,2,3,0)",
    },
    "time first": {
        "sizes": "1 6 7 5",
        "space": "LPST",
        "space_directions": f"(0,0,0,1) {TIMED}",
        "space_origin": "(1,2,3,9)",
    },
}


@pytest.mark.parametrize("kind", ONE_VOLUME)
def test_one_volume_in_four_dimensions_of_nrrd(tmp_path: Path, kind: str) -> None:
    volume = read_scan(write_nrrd(tmp_path / "a.nrrd", dimension="4", **ONE_VOLUME[kind]))
    np.testing.assert_array_equal(volume.array, IMAGE)
    np.testing.assert_allclose(volume.affine, [[-2, 0, 0, -1], [0, -2, 0, -2], [0, 0, 3, 3], [0, 0, 0, 1]])
    assert volume.notes == ("4D with one volume, taken as 3D",)


SERIES = np.stack([head_like((6, 7, 5), seed=n) for n in range(3)], axis=3)


def four(path: Path) -> Path:
    """Three volumes: NIfTI and MetaImage one after the other, NRRD interleaved."""
    if path.suffix == ".nrrd":
        data = np.moveaxis(SERIES, 3, 0).tobytes(order="F")
        return write_nrrd(path, data=data, dimension="4", sizes="3 6 7 5", space_directions=f"none {SPACE}")
    if path.suffix == ".mha":
        fields = {"NDims": "4", "DimSize": "6 7 5 3", "Offset": "1 2 3 0", "ElementSpacing": "2 2 3 1"}
        return meta(path, SERIES.tobytes(order="F"), **fields)
    return write_nifti(path, SERIES, affine_of())


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_one_of_several_volumes(tmp_path: Path, name: str) -> None:
    path = four(tmp_path / name)
    np.testing.assert_array_equal(read_scan(path, volume="first").array, SERIES[..., 0])
    np.testing.assert_array_equal(read_scan(path, volume="2").array, SERIES[..., 2])
    np.testing.assert_allclose(read_scan(path, volume="mean").array, SERIES.mean(axis=3), rtol=1e-6)
    assert read_header(path, volume="2").notes == ("volume 2 of 3",)
    with pytest.raises(ScanError, match="no volume 3: it holds 3, 0 to 2"):
        read_header(path, volume="3")
    with pytest.raises(ScanError, match=r"holds 3 volumes; choose one by --volume N, first or mean"):
        read_header(path, volume="")
    for read in (read_scan, read_label):  # where no option chooses, none is advised
        with pytest.raises(ScanError, match="holds 3 volumes; split it into 3D files"):
            read(path)


def test_truncated_series_are_refused_whichever_volume_is_read(tmp_path: Path) -> None:
    path = four(tmp_path / "a.nii")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ScanError, match="file too short"):
        read_header(path, volume="first")


def test_a_channel_axis_in_front_is_named(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", np.moveaxis(SERIES[..., :1], 3, 0), affine_of())
    with pytest.raises(ScanError, match="of one voxel along their first axis"):
        read_header(path, volume="first")


def test_prepare_takes_the_volume_that_is_asked_for(tmp_path: Path) -> None:
    from alice3d.data.prepare import PrepareOptions, prepare
    from alice3d.data.store import Store
    from alice3d.errors import UserError

    image = np.stack([head_like(seed=n) for n in range(3)], axis=3)
    write_nifti(tmp_path / "scans" / "a.nii.gz", image, affine_of())
    options = {"spacing_mm": (2.0, 2.0, 2.5), "modality": "ct", "crop": "none"}
    with pytest.raises(UserError, match="--volume N, first or mean"):
        prepare(tmp_path / "scans", tmp_path / "s", PrepareOptions(**options))  # type: ignore[arg-type]
    prepare(tmp_path / "scans", tmp_path / "t", PrepareOptions(**options, volume="1"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(Store.open(tmp_path / "t").image("a")[:], image[..., 1])
