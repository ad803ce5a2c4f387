"""NIfTI headers are believed only after their raw bytes were checked; a whole file gives its true numbers."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_files import affine_of, f4, head_like, i2, patch, write_nifti

from alice3d.errors import UserError
from alice3d.io.folders import walk
from alice3d.io.read import case_id, read_header, read_label, read_scan
from alice3d.io.volume import ScanError, scaled

Damage = Callable[[Path], Any]


def cut(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def voxels(value: Any) -> Damage:
    def change(path: Path) -> None:
        image = head_like().astype(np.float32)
        image[3, 4, 5] = value
        write_nifti(path, np.full_like(image, value) if np.isfinite(value) else image)

    return change


def shaped(*shape: int, dtype: Any = np.int16) -> Damage:
    return lambda path: write_nifti(path, np.arange(np.prod(shape)).reshape(shape).astype(dtype))


def colours(path: Path) -> None:
    array = np.zeros((6, 6, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


FAULTS: dict[str, tuple[str, Damage, str]] = {
    "empty file": ("a.nii.gz", lambda path: path.write_bytes(b""), "empty file"),
    "no NIfTI": ("a.nii", lambda path: path.write_bytes(b"hello " * 200), "not a NIfTI file: no NIfTI header"),
    "only a few bytes": ("a.nii", lambda path: path.write_bytes(b"\x5c\x01"), "too short"),
    "wrong magic": ("a.nii", lambda path: patch(path, "magic", b"xyz\0"), "not a NIfTI file"),
    "pair's magic in one file": (
        "a.nii",
        lambda path: patch(path, "magic", b"ni1\0"),
        "not a NIfTI file: magic string 'ni1' in a single file",
    ),
    "truncated gzip": ("a.nii.gz", cut(0.6), "gzip|too short"),
    "truncated in its last byte": ("a.nii.gz", lambda path: path.write_bytes(path.read_bytes()[:-1]), "gzip"),
    "truncated after the header": ("a.nii.gz", cut(0.02), "gzip|too short"),
    "damaged gzip": ("a.nii.gz", lambda path: path.write_bytes(path.read_bytes()[:200] + b"\0" * 4000), "gzip"),
    "truncated plain file": ("a.nii", cut(0.7), "too short: .* states"),
    "short inside gzip": (
        "a.nii.gz",
        lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100])),
        "too short",
    ),
    "promises 1 TB": ("a.nii.gz", lambda path: patch(path, "dim", i2(3, 8000, 8000, 8000)), "too large"),
    "promises more than gzip can hold": (
        "a.nii.gz",
        lambda path: patch(path, "dim", i2(3, 900, 900, 900)),
        "too short",
    ),
    "zero sides": ("a.nii", lambda path: patch(path, "dim", i2(3, 0, 26, 20)), "bad dimensions"),
    "negative sides": ("a.nii", lambda path: patch(path, "dim", i2(3, -24, 26, 20)), "bad dimensions"),
    "rank 9": ("a.nii", lambda path: patch(path, "dim", i2(9)), "dim\\[0\\] is 9"),
    "zero pixdim": ("a.nii.gz", lambda path: patch(path, "pixdim", f4(0), 1, 4), "pixdim\\[1\\] is 0 mm"),
    "negative pixdim": ("a.nii", lambda path: patch(path, "pixdim", f4(-2), 2, 4), "pixdim\\[2\\] is -2 mm"),
    "NaN pixdim": ("a.nii", lambda path: patch(path, "pixdim", f4(np.nan), 3, 4), "pixdim\\[3\\] is nan"),
    "absurd pixdim": ("a.nii", lambda path: patch(path, "pixdim", f4(4000), 1, 4), "bad spacing"),
    "tiny pixdim": ("a.nii", lambda path: patch(path, "pixdim", f4(1e-5), 1, 4), "bad spacing"),
    "NaN in sform": ("a.nii", lambda path: patch(path, "srow_x", f4(np.nan)), "NaN"),
    "zeros in sform": ("a.nii", lambda path: patch(path, "srow_x", f4(0, 0, 0, 0)), "voxel size 0|singular"),
    "absurd sform": ("a.nii", lambda path: patch(path, "srow_x", f4(1e6)), "voxel size"),
    "singular sform": ("a.nii", lambda path: patch(path, "srow_x", f4(0, 2, 0, 0)), "singular|voxel size"),
    "mirrored qform": ("a.nii", lambda path: patch(path, "pixdim", f4(-1), 0, 4), "left and right unknown"),
    "bad quaternion": (
        "a.nii",
        lambda path: patch(patch(path, "quatern_b", f4(3, 3, 3)), "sform_code", i2(0)),
        "quaternion",
    ),
    "no orientation": (
        "a.nii",
        lambda path: patch(patch(path, "sform_code", i2(0)), "qform_code", i2(0)),
        "no orientation",
    ),
    "unknown type": ("a.nii", lambda path: patch(path, "datatype", i2(999)), "unknown datatype code 999"),
    "complex": ("a.nii", shaped(4, 4, 4, dtype=np.complex64), "complex"),
    "RGB": ("a.nii", colours, "RGB"),
    "infinite slope": ("a.nii", lambda path: patch(path, "scl_slope", f4(np.inf)), "scl_slope"),
    "NaN offset": ("a.nii", lambda path: patch(path, "vox_offset", f4(np.nan)), "vox_offset"),
    "offset beyond the end": ("a.nii", lambda path: patch(path, "vox_offset", f4(9e6)), "too short"),
    "2D": ("a.nii", shaped(20, 20), "2D image"),
    "one slice": ("a.nii", shaped(20, 20, 1), "too thin|2D"),
    "4D": ("a.nii", shaped(5, 6, 7, 3), "4D image: 5 x 6 x 7 x 3 holds 3 volumes"),
    "NaN voxels": ("a.nii.gz", voxels(np.nan), "NaN or infinite voxels: 1 of"),
    "infinite voxels": ("a.nii.gz", voxels(np.inf), "NaN or infinite voxels: 1 of"),
    "constant": ("a.nii.gz", voxels(7), "constant voxels: all are 7"),
    "half a pair": ("a.hdr", lambda path: path.with_suffix(".img").unlink(), "header without its data file"),
    "missing": ("a.nii", lambda path: path.unlink(), "no such file"),
    "a folder": ("a.nii", lambda path: (path.unlink(), path.mkdir()), "no scan in this folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_in_one_line(tmp_path: Path, fault: str) -> None:
    name, damage, words = FAULTS[fault]
    path = write_nifti(tmp_path / name, head_like())
    damage(path)
    with pytest.raises(ScanError, match=words) as error:
        read_scan(path)
    assert str(error.value) == f"{name}: {error.value.reason}"
    assert "\n" not in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_faults_of_the_header_are_found_without_the_voxels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = patch(write_nifti(tmp_path / "a.nii.gz", head_like()), "dim", i2(3, 30000, 30000, 600))
    monkeypatch.setattr(np, "empty", lambda *_, **__: pytest.fail("memory was asked for"))
    with pytest.raises(ScanError, match="2,160 GB"):
        read_header(path)


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nifti(tmp_path / "a.nii", head_like())

    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ScanError, match="Permission denied"):
        read_header(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr", "A.NII"])
@pytest.mark.parametrize("dtype", ["i2", ">i2", "u1", "f4", "f8", "i4", "u2", "i8"])
def test_numbers_and_places_are_those_that_nibabel_reads(tmp_path: Path, name: str, dtype: str) -> None:
    image = (head_like() // 8 + 130).astype(dtype)
    path = tmp_path / name
    write_nifti(tmp_path / name.lower(), image, affine_of(axes="PLI")).rename(path)
    volume = read_scan(path)
    reference = nib.load(tmp_path / name) if name != "A.NII" else None
    np.testing.assert_array_equal(volume.array, image)
    if reference is not None:
        np.testing.assert_allclose(volume.affine, reference.affine)
    assert volume.array.dtype in (np.int16, np.int32, np.float32)
    assert volume.array.dtype.isnative


def test_nifti_2(tmp_path: Path) -> None:
    image = nib.Nifti2Image(head_like(), affine_of())
    nib.save(image, tmp_path / "a.nii.gz")
    volume = read_scan(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(volume.array, head_like())
    np.testing.assert_allclose(volume.affine, affine_of())


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", (head_like() + 1024).astype(np.uint16))
    patch(patch(path, "scl_slope", f4(1)), "scl_inter", f4(-1024))
    assert read_scan(path).array.dtype == np.int16
    np.testing.assert_array_equal(read_scan(path).array, head_like())
    patch(path, "scl_slope", f4(0.5))
    np.testing.assert_allclose(read_scan(path).array, (head_like() + 1024) * 0.5 - 1024)
    patch(path, "scl_slope", f4(0))  # NIfTI-1: no scaling, the intercept does not count
    np.testing.assert_array_equal(read_scan(path).array, head_like() + 1024)


def test_gzip_is_told_by_content_and_not_by_name(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", head_like())
    path.rename(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(read_scan(tmp_path / "b.nii.gz").array, head_like())


@pytest.mark.parametrize("name", ["a.nii.gz", "a.dcm", "a"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ScanError, match="not a file: a pipe"):
        read_header(tmp_path / name)
    assert list(walk(tmp_path)) == []


def test_one_volume_in_four_dimensions_is_taken(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", head_like()[..., None])
    volume = read_scan(path)
    assert volume.array.shape == head_like().shape
    assert "one volume" in volume.notes[0]


def test_unknown_ending(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="unknown format"):
        read_header(tmp_path / "a.jpg")


def test_case_ids() -> None:
    assert case_id(Path("x/hn.1_0.nii.gz")) == "hn.1_0"
    assert case_id(Path("e\u0301.nii")) == "\u00e9"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.astype(np.float32) + 0.5, "not integers: 0.5"),
        (lambda a: a.astype(np.int16) - 1, "out of range: -1"),
        (lambda a: a.astype(np.int32) * 40000, "out of range"),
        (lambda a: np.where(a, np.nan, 0.0).astype(np.float32), "NaN"),
    ],
)
def test_label_maps_hold_whole_numbers(tmp_path: Path, change: Any, words: str) -> None:
    label = (head_like() > 500).astype(np.uint8)
    with pytest.raises(ScanError, match=words):
        read_label(write_nifti(tmp_path / "a.nii.gz", change(label)))
    np.testing.assert_array_equal(read_label(write_nifti(tmp_path / "b.nii", label.astype(np.float64))).array, label)
    assert read_label(write_nifti(tmp_path / "c.nii", label * 0)).array.max() == 0
    assert read_label(write_nifti(tmp_path / "d.nii", label.astype(np.int16) * 300)).array.dtype == np.int16


def test_scaling_keeps_integers_and_finds_the_smallest_type() -> None:
    assert scaled(np.array([0, 255], np.uint8), 1, 0, "").dtype == np.int16
    assert scaled(np.array([0, 40000], np.uint16), 1, 0, "").dtype == np.int32
    assert scaled(np.array([0, 2**40]), 1, 0, "").dtype == np.float32
    assert scaled(np.array([1, 2], np.int16), 0.5, 0, "").dtype == np.float32
    assert scaled(np.array([-32768, 32767], np.int16), 1, -1, "").tolist() == [-32769, 32766]


@given(st.data())
@settings(max_examples=1000, deadline=None)
def test_damaged_headers_never_end_in_a_traceback(tmp_path_factory: Any, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(_whole_file(folder))
    for at in data.draw(st.lists(st.integers(0, 351), min_size=1, max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    path = folder / "damaged.nii"
    path.write_bytes(content)
    with contextlib.suppress(ScanError):
        volume = read_scan(path)
        assert volume.array.ndim == 3
        assert np.isfinite(volume.affine).all()


def _whole_file(folder: Path) -> bytes:
    path = folder / "whole.nii"
    if not path.exists():
        write_nifti(path, head_like((6, 7, 5)))
    return path.read_bytes()
