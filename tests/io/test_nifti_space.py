"""Where a NIfTI or Analyze file lies: sform and qform, units, and files that do not say."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scan_files import affine_of, f4, head_like, i2, patch, write_nifti

from alice3d.io.read import read_header, read_scan
from alice3d.io.volume import ScanError


def test_sform_is_used_and_disagreement_is_told(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", head_like())
    assert read_header(path).notes == ()
    patch(path, "srow_x", f4(50), 3, 4)
    header = read_header(path)
    assert header.affine[0, 3] == 50
    assert "sform and qform lie 70.0 mm apart, sform used" in header.notes[0]
    patch(path, "sform_code", i2(0))
    np.testing.assert_allclose(read_header(path).affine, affine_of(), atol=1e-5)


def test_a_damaged_qform_beside_a_sform_is_told_and_not_used(tmp_path: Path) -> None:
    path = patch(write_nifti(tmp_path / "a.nii", head_like()), "quatern_b", f4(3, 3, 3))
    header = read_header(path)
    np.testing.assert_allclose(header.affine, affine_of())
    assert header.notes == ("the qform's quaternion is not of unit length, sform used",)


@pytest.mark.parametrize("sform", [0, 1])
def test_a_qfac_of_zero_means_one(tmp_path: Path, sform: int) -> None:
    """NIfTI-1, 'Method 2': of pixdim[0] only the sign counts, and 0 is taken as 1."""
    path = patch(write_nifti(tmp_path / "a.nii", head_like()), "pixdim", f4(0), 0, 4)
    header = read_header(patch(path, "sform_code", i2(sform)))
    np.testing.assert_allclose(header.affine, affine_of(), atol=1e-5)
    assert header.notes == ()


def test_orientation_may_be_told(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", head_like(), codes=(0, 0))
    for word, sign in (("ras", 1), ("las", -1)):
        header = read_header(path, unoriented=word)
        np.testing.assert_allclose(np.diag(header.affine), (2 * sign, 2, 2.5, 1))
        assert "taken as" in header.notes[0]


def test_analyze_pair_needs_an_orientation(tmp_path: Path) -> None:
    image = nib.AnalyzeImage(head_like(), np.diag([2, 2, 2.5, 1]))
    nib.save(image, tmp_path / "a.hdr")
    with pytest.raises(ScanError, match="no orientation"):
        read_header(tmp_path / "a.hdr")
    found = read_scan(tmp_path / "a.hdr", unoriented="las")
    np.testing.assert_array_equal(found.array, head_like())


def test_metres_are_converted(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", head_like(), affine_of((0.002, 0.002, 0.0025), origin=(0, 0, 0)))
    with pytest.raises(ScanError, match="bad spacing"):
        read_header(path)
    patch(path, "xyzt_units", b"\x01")
    header = read_header(path)
    np.testing.assert_allclose(np.diag(header.affine), (2, 2, 2.5, 1), rtol=1e-5)
    assert "metre" in header.notes[0]
