"""Writes label maps as NIfTI in the space of their scan, atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from alice3d.errors import WorkFailed
from alice3d.files import replacing
from alice3d.geometry import Affine
from alice3d.io.forms import Forms, header_in_space


def write_label(path: Path, labels_ijk: NDArray[Any], affine: Affine, forms: Forms | None = None) -> None:
    """Write label values as NIfTI-1 in the space of their scan: uint8, or uint16 above 255.

    Args:
        path: ends in .nii or .nii.gz; its folder is created if missing.
        labels_ijk: label values (i, j, k), 0 to 65,535.
        affine: of the scan, voxel index to RAS mm.
        forms: sform and qform of the scan, as `Volume.forms`; None: the affine, in scanner space.

    Raises:
        WorkFailed: the disk is full or cannot be written.
    """
    kept = labels_ijk.astype(np.uint8 if labels_ijk.max(initial=0) < 256 else np.uint16)
    x, y, z = kept.shape
    header = header_in_space((x, y, z), affine, forms)
    header.set_data_dtype(kept.dtype)  # type: ignore[no-untyped-call]
    image = nib.Nifti1Image(kept, None, header)  # type: ignore[no-untyped-call]
    try:
        with replacing(path) as temporary:
            nib.save(image, temporary)
    except OSError as error:
        raise WorkFailed(f"{path.name}: cannot be written ({error.strerror or type(error).__name__})") from None
