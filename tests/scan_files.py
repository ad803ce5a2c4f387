"""Small scans, whole and damaged, as files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

OFFSETS = {"dim": 40, "datatype": 70, "bitpix": 72, "pixdim": 76, "vox_offset": 108, "scl_slope": 112, "scl_inter": 116}
OFFSETS |= {"xyzt_units": 123, "qform_code": 252, "sform_code": 254, "quatern_b": 256, "srow_x": 280, "magic": 344}


def head_like(shape: tuple[int, int, int] = (24, 26, 20), seed: int = 0) -> NDArray[np.int16]:
    """An ellipsoid of tissue with a bright sphere on its low-index side along every axis, in air; HU."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    image = np.full(shape, -1000.0)
    image[(x / 0.8) ** 2 + (y / 0.8) ** 2 + (z / 0.9) ** 2 < 1] = 40
    image[(x + 0.4) ** 2 + (y + 0.3) ** 2 + (z + 0.35) ** 2 < 0.04] = 900
    return np.rint(image + rng.normal(0, 5, shape)).astype(np.int16)


def affine_of(
    spacing: Any = (2.0, 2.0, 2.5), axes: str = "RAS", origin: Any = (-20.0, 10.0, 30.0)
) -> NDArray[np.float64]:
    """Affine whose voxel axes point to the named directions, with `spacing` along each."""
    affine = np.eye(4)
    for column, (letter, mm) in enumerate(zip(axes, spacing, strict=True)):
        row = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}[letter]
        affine[:3, column] = 0
        affine[row, column] = mm if letter in "RAS" else -mm
    affine[:3, 3] = origin
    return affine


def write_nifti(
    path: Path, array: NDArray[Any], affine: NDArray[np.float64] | None = None, codes: Any = (1, 1)
) -> Path:
    """Write a NIfTI file with sform and qform."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = affine_of() if affine is None else affine
    kind = nib.Nifti1Pair if path.name.endswith((".hdr", ".img")) else nib.Nifti1Image
    image = kind(array, affine, dtype=array.dtype)
    image.set_sform(affine, code=codes[0])
    image.set_qform(affine, code=codes[1])
    nib.save(image, path)
    return path


def patch(path: Path, field: str, value: bytes, index: int = 0, item: int = 1) -> Path:
    """Overwrite raw header bytes of a .nii or .nii.gz."""
    packed = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    at = OFFSETS[field] + index * item
    content[at : at + len(value)] = value
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return path


def oblique(seed: int = 3) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * [1.1, 2.0, 3.5]
    affine[:3, 3] = [-40, 25, 130]
    return affine


def f4(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def i2(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}h", *values)


def write_nrrd(path: Path, *, data: bytes | None = None, **fields: str) -> Path:
    """Write an NRRD by hand; a field of value "" is left out."""
    image = head_like((6, 7, 5))
    header = {
        "type": "short",
        "dimension": "3",
        "sizes": "6 7 5",
        "encoding": "raw",
        "endian": "little",
        "space": "left-posterior-superior",
        "space directions": "(2,0,0) (0,2,0) (0,0,3)",
        "space origin": "(1,2,3)",
    }
    header |= {key.replace("_", " "): value for key, value in fields.items()}
    lines = [
        "NRRD0004",
        "# a comment",
        *(f"{key}: {value}" for key, value in header.items() if value),
        "PatientName:=X",
    ]
    content = image.tobytes(order="F") if data is None else data
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + content)
    return path
