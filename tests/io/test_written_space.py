"""Label maps lie where their scan lies, for programs that read sforms and for those that read qforms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scan_files import affine_of, head_like, oblique, write_nifti

from alice3d.geometry import apply_affine
from alice3d.io.in_memory import as_volume
from alice3d.io.read import read_scan
from alice3d.io.volume import Volume
from alice3d.io.write import write_label


def written(path: Path, volume: Volume) -> Any:
    write_label(path, np.ones(volume.array.shape, np.uint8), volume.affine, volume.forms)
    return nib.load(path).header


def moved(affine: NDArray[Any], mm: float) -> NDArray[Any]:
    other = affine.copy()
    other[1, 3] += mm
    return other


@pytest.mark.parametrize("codes", [(2, 1), (1, 1), (4, 3), (2, 0), (0, 1), (0, 3)])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "oblique"])
def test_both_forms_of_a_scan_and_their_codes_are_kept(tmp_path: Path, codes: tuple[int, int], axes: str) -> None:
    affine = oblique() if axes == "oblique" else affine_of(axes=axes)
    path = write_nifti(tmp_path / "a.nii.gz", head_like(), affine, codes)
    image = nib.load(path)
    if codes[0] and codes[1]:
        image.set_qform(moved(affine, 6), codes[1])
    nib.save(image, tmp_path / "b.nii.gz")
    scan = nib.load(tmp_path / "b.nii.gz").header
    for volume in (read_scan(tmp_path / "b.nii.gz"), as_volume(nib.load(tmp_path / "b.nii.gz"))):
        made = written(tmp_path / "label.nii.gz", volume)
        assert (int(made["sform_code"]), int(made["qform_code"])) == codes
        if codes[0]:
            np.testing.assert_allclose(made.get_sform(), scan.get_sform(), atol=1e-4)
        if codes[1]:
            np.testing.assert_allclose(made.get_qform(), scan.get_qform(), atol=1e-4)
        np.testing.assert_allclose(nib.load(tmp_path / "label.nii.gz").affine, volume.affine, atol=1e-4)


def test_a_qform_cannot_hold_a_shear(tmp_path: Path) -> None:
    affine = affine_of((2.0, 2.0, 2.5), axes="LPS")
    affine[1, 2] += 0.9
    made = written(tmp_path / "a.nii.gz", Volume(head_like(), affine))
    assert (int(made["sform_code"]), int(made["qform_code"])) == (1, 0)
    np.testing.assert_allclose(made.get_sform(), affine, atol=1e-4)
    straight = written(tmp_path / "b.nii.gz", Volume(head_like(), oblique()))
    assert (int(straight["sform_code"]), int(straight["qform_code"])) == (1, 1)
    np.testing.assert_allclose(straight.get_qform(), oblique(), atol=1e-4)


def test_a_damaged_qform_is_not_copied(tmp_path: Path) -> None:
    from scan_files import f4, patch

    path = patch(write_nifti(tmp_path / "a.nii", head_like()), "quatern_b", f4(2, 2, 2))
    made = written(tmp_path / "label.nii.gz", read_scan(path))
    assert (int(made["sform_code"]), int(made["qform_code"])) == (1, 0)


def test_metres_become_millimetres_in_both_forms(tmp_path: Path) -> None:
    affine = affine_of()
    image = nib.Nifti1Image(head_like(), np.diag([0.001, 0.001, 0.001, 1]) @ affine)
    image.set_sform(image.affine, 2)
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii")
    made = written(tmp_path / "label.nii.gz", read_scan(tmp_path / "a.nii"))
    np.testing.assert_allclose(made.get_sform(), affine, atol=1e-4)
    np.testing.assert_allclose(made.get_qform(), affine, atol=1e-4)


@pytest.mark.parametrize("codes", [(2, 1), (0, 1), (1, 0)])
def test_simpleitk_places_scan_and_label_alike(tmp_path: Path, codes: tuple[int, int]) -> None:
    itk: Any = pytest.importorskip("SimpleITK")
    path = write_nifti(tmp_path / "a.nii.gz", head_like(), oblique(), codes)
    volume = read_scan(path)
    written(tmp_path / "label.nii.gz", volume)
    scan, label = itk.ReadImage(str(path)), itk.ReadImage(str(tmp_path / "label.nii.gz"))
    for index in ((0, 0, 0), (23, 25, 19)):
        a, b = (np.array(image.TransformIndexToPhysicalPoint(index)) for image in (scan, label))
        np.testing.assert_allclose(a, b, atol=1e-3)
        np.testing.assert_allclose(a * [-1, -1, 1], apply_affine(volume.affine, np.array(index)), atol=1e-3)
