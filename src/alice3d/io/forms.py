"""sform and qform of NIfTI: both matrices of a scan with their codes, and the header of a map in the same space."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np

from alice3d.geometry import Affine, apply_affine

SCANNER = 1
"""NIFTI_XFORM_SCANNER_ANAT: the patient's space of the scanner, which DICOM, NRRD and MetaImage state."""
ROTATION_MM = 0.01
"""A qform is rotation and voxel size alone: where a corner moves farther than this, the affine has a shear."""


@dataclass(frozen=True, eq=False)
class Forms:
    """The space of a NIfTI scan as its header states it.

    Attributes:
        sform: voxel index to RAS mm, (4, 4); None where it is not set.
        sform_code: 0 to 5.
        qform: the same by quaternion.
        qform_code: 0 to 5.
    """

    sform: Affine | None
    sform_code: int
    qform: Affine | None
    qform_code: int


def header_in_space(shape: tuple[int, int, int], affine: Affine, forms: Forms | None) -> nib.Nifti1Header:
    """A NIfTI-1 header in mm in the space of a scan.

    Args:
        shape: (i, j, k).
        affine: of the scan, voxel index to RAS mm.
        forms: of the scan, kept with their codes. None: both forms are the affine, of scanner space; the qform has code
            0 where it cannot hold the affine's shear (NIfTI-1, method 2: rotation and voxel size only).
    """
    header = nib.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_shape(shape)  # type: ignore[no-untyped-call]
    header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    if forms is not None and (forms.sform is not None or forms.qform is not None):
        qform, code = (affine, 0) if forms.qform is None else (forms.qform, forms.qform_code)
        header.set_qform(qform, code)  # type: ignore[no-untyped-call]
        header.set_sform(forms.sform, forms.sform_code if forms.sform is not None else 0)  # type: ignore[no-untyped-call]
        return header
    header.set_qform(affine, SCANNER)  # type: ignore[no-untyped-call]
    header.set_sform(affine, SCANNER)  # type: ignore[no-untyped-call]
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1).T
    held = np.asarray(header.get_qform(), np.float64)  # type: ignore[no-untyped-call]
    if np.linalg.norm(apply_affine(held, corners) - apply_affine(affine, corners), axis=1).max() > ROTATION_MM:
        header.set_qform(affine, 0)  # type: ignore[no-untyped-call]
    return header
