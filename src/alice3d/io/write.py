"""Writes label maps as NIfTI, atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from alice3d.errors import WorkFailed
from alice3d.files import replacing
from alice3d.geometry import Affine


def write_label(path: Path, labels_ijk: NDArray[Any], affine: Affine) -> None:
    """Write label values as NIfTI-1 with sform and qform of scanner space: uint8, or uint16 above 255.

    Args:
        path: ends in .nii or .nii.gz; its folder is created if missing.
        labels_ijk: label values (i, j, k), 0 to 65,535.
        affine: voxel index to RAS mm.

    Raises:
        WorkFailed: the disk is full or cannot be written.
    """
    kept = labels_ijk.astype(np.uint8 if labels_ijk.max(initial=0) < 256 else np.uint16)
    image = nib.Nifti1Image(kept, affine)  # type: ignore[no-untyped-call]
    image.set_sform(affine, code=1)  # type: ignore[no-untyped-call]
    image.set_qform(affine, code=1)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    try:
        with replacing(path) as temporary:
            nib.save(image, temporary)
    except OSError as error:
        raise WorkFailed(f"{path.name}: cannot be written ({error.strerror or type(error).__name__})") from None
