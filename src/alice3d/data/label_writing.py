"""Writes label maps as NIfTI, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from alice3d.errors import WorkFailed
from alice3d.geometry import Affine

UNFINISHED = ".unfinished-"
"""Prefix of files that are being written; one that a kill left may be deleted."""


def write_label(path: Path, labels_ijk: NDArray[Any], affine: Affine) -> None:
    """Write label values as NIfTI-1 with sform and qform of scanner space: uint8, or uint16 above 255.

    Args:
        path: ends in .nii or .nii.gz; its folder is made if missing.
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
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ending = ".nii.gz" if path.name.endswith(".gz") else ".nii"
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix=ending)
        os.close(handle)
        nib.save(image, temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise WorkFailed(f"{path.name}: cannot be written ({error.strerror or type(error).__name__})") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
