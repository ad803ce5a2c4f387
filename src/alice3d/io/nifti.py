"""Reads NIfTI-1 and -2 (.nii, .nii.gz, .hdr with .img) and Analyze 7.5, checking the header's own bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from alice3d.geometry import MAX_SPACING_MM, MIN_SPACING_MM, Affine, apply_affine
from alice3d.io.forms import Forms
from alice3d.io.stream import DAMAGED, Encoding, check_size, is_gzip, open_stream
from alice3d.io.volume import Header, ScanError, Unoriented, check_shape, check_space, scaled, unoriented_affine
from alice3d.io.volumes import choose, read_stored

TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
OTHER_TYPES = {1: "single bits", 32: "complex", 128: "RGB colours", 1536: "128-bit floats", 1792: "complex"}
OTHER_TYPES |= {2048: "complex", 2304: "RGBA colours"}
UNITS_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
"""Codes of xyzt_units for metre, millimetre and micrometre."""
DISAGREE_MM = 0.5
"""sform and qform that place a corner this far apart (and a tenth of a voxel) are reported."""


def pair_of(path: Path) -> tuple[Path, Path]:
    """Header file and voxel file of a .hdr, .img or their .gz; one and the same for .nii."""
    name = path.name.lower()
    for extension, other in ((".hdr", ".img"), (".img", ".hdr"), (".hdr.gz", ".img.gz"), (".img.gz", ".hdr.gz")):
        if name.endswith(extension):
            stem = path.name[: -len(extension)]
            twin = next((p for p in (path.with_name(stem + e) for e in (other, other.upper())) if p.exists()), None)
            if twin is None:
                what = "header without its data file" if ".hdr" in extension else "data file without its header"
                raise ScanError(path.name, f"{what}: {stem}{other} is missing")
            return (path, twin) if ".hdr" in extension else (twin, path)
    return path, path


def read_header(path: Path, *, unoriented: Unoriented = "refuse", volume: str | None = None) -> Header:
    """Read and check the header.

    Raises:
        ScanError: not NIfTI, damaged, or not a single volume.
    """
    name = path.name
    header_path, voxel_path = pair_of(path)
    try:
        if header_path.stat().st_size == 0:
            raise ScanError(name, "empty file")
        with open_stream(header_path, "gzip" if is_gzip(header_path) else "raw") as stream:
            block = stream.read(540)
    except DAMAGED:
        raise ScanError(name, "truncated or damaged gzip: the header cannot be unpacked") from None
    raw, version = _parse(block, name)
    magic = bytes(raw["magic"]).rstrip(b"\0 ") if version else b""
    analyze = magic not in (b"n+1", b"ni1", b"n+2", b"ni2")
    if not analyze and magic.startswith(b"n+") != (header_path == voxel_path):
        where = "single file" if header_path == voxel_path else "header of a pair"
        raise ScanError(name, f"not a NIfTI file: magic string {magic.decode('latin-1')!r} in a {where}")
    if analyze and header_path == voxel_path:
        raise ScanError(name, "not a NIfTI file: no NIfTI header")
    rank = int(raw["dim"][0])
    if not 1 <= rank <= 7:
        raise ScanError(name, f"bad dimensions: dim[0] is {rank}, expected 3")
    dims = tuple(int(n) for n in raw["dim"][1 : rank + 1])
    volumes, shape, notes = choose(dims, range(min(rank, 3)), volume, name)
    code = int(raw["datatype"])
    if code not in TYPES:
        what = OTHER_TYPES.get(code, f"unknown datatype code {code}")
        raise ScanError(name, f"unsupported voxel type: {what}; one value per voxel is needed")
    dtype = np.dtype(TYPES[code]).newbyteorder(raw.dtype["dim"].base.byteorder)
    _check_pixdim(raw, name)
    affine, space_notes, forms = _affine(raw, version, analyze, shape, name, unoriented)
    offset = float(raw["vox_offset"])
    if not (np.isfinite(offset) and 0 <= offset < 2**40):
        raise ScanError(name, f"bad header: vox_offset is {offset:g}")
    if header_path == voxel_path:
        offset = max(offset, 544.0 if version == 2 else 352.0) if offset else (544.0 if version == 2 else 352.0)
    slope, intercept = (1.0, 0.0) if analyze else _scaling(raw, name)
    encoding: Encoding = "gzip" if is_gzip(voxel_path) else "raw"
    check_size(voxel_path, encoding, 0, int(offset) + math.prod(dims) * dtype.itemsize, name)
    details = {
        "volumes": volumes,
        "place": (voxel_path, encoding, 0, int(offset)),
        "slope": slope,
        "intercept": intercept,
        "forms": forms,
    }
    return Header(path, "analyze" if analyze else "nifti", shape, affine, dtype, (*notes, *space_notes), details)


def _parse(block: bytes, name: str) -> tuple[Any, int]:
    """The raw header as a numpy record in its own byte order, and 1, 2 (NIfTI) or 0 (Analyze)."""
    if len(block) < 348:
        raise ScanError(name, f"file too short: {len(block)} bytes are not a NIfTI header")
    orders: tuple[Literal["<"], Literal[">"]] = ("<", ">")
    for order in orders:
        size = int(np.frombuffer(block[:4], f"{order}i4")[0])
        if size == 348:
            record = np.frombuffer(block[:348], nib.nifti1.header_dtype.newbyteorder(order))[0]
            return record, 1
        if size == 540 and len(block) == 540:
            record = np.frombuffer(block, nib.nifti2.header_dtype.newbyteorder(order))[0]
            return record, 2
    raise ScanError(name, "not a NIfTI file: no NIfTI header")


def _check_pixdim(raw: Any, name: str) -> None:
    """Refuse voxel sizes that nibabel would turn into 1 mm with a log line."""
    for axis in (1, 2, 3):
        value = float(raw["pixdim"][axis])
        if not np.isfinite(value) or value <= 0:
            raise ScanError(name, f"bad spacing: pixdim[{axis}] is {value:g} mm; correct the header")


def _scaling(raw: Any, name: str) -> tuple[float, float]:
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0  # NIfTI-1: a slope of zero means no scaling
    if np.isinf(slope) or not np.isfinite(intercept):
        raise ScanError(name, f"bad header: scl_slope {slope:g}, scl_inter {intercept:g}")
    return slope, intercept


def _affine(
    raw: Any, version: int, analyze: bool, shape: tuple[int, int, int], name: str, unoriented: Unoriented
) -> tuple[Affine, tuple[str, ...], Forms | None]:
    """sform where it is set, else qform, as in NIfTI-1 section 'Method 3' and all common tools; notes; and both."""
    unit = 2 if analyze else int(raw["xyzt_units"]) & 7
    scale = UNITS_MM.get(unit, 1.0)
    notes = [f"header's unit is {'metre' if unit == 1 else 'micrometre'}, converted to mm"] if scale != 1 else []
    for axis in (1, 2, 3):
        value = float(raw["pixdim"][axis]) * scale
        if not MIN_SPACING_MM <= value <= MAX_SPACING_MM:
            where = f"{MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm"
            raise ScanError(name, f"bad spacing: pixdim[{axis}] is {value:g} mm, outside {where}; correct the header")
    codes = (0, 0) if analyze else (int(raw["sform_code"]), int(raw["qform_code"]))
    sform = _sform(raw) if codes[0] > 0 else None
    qform = None
    try:
        qform = _qform(raw, version, name) if codes[1] > 0 else None
    except ScanError as error:
        if sform is None:
            raise
        notes.append(f"{error.reason.removeprefix('bad affine: ').removesuffix('; correct the header')}, sform used")
    for affine in (sform, qform):
        if affine is not None:
            affine[:3] *= scale
    if sform is not None:
        affine = check_space(sform, name)
        notes += _disagreement(affine, qform, shape, name)
    elif qform is not None:
        affine = check_space(qform, name)
    else:
        steps = np.asarray(raw["pixdim"][1:4], np.float64) * scale
        affine, more = unoriented_affine(steps, shape, unoriented, name, "neither sform nor qform is set")
        notes += more
    forms = Forms(sform, codes[0], qform, codes[1]) if any(codes) else None
    return affine, tuple(notes), forms


def affine_of_image(image: Any, name: str) -> tuple[Affine, tuple[str, ...], Forms | None]:
    """Voxel index to RAS mm of a nibabel image in memory, notes, and its forms; its header is checked as a file's.

    Raises:
        ScanError: the orientation is not stated, or contradicts itself.
    """
    if image.affine is None:
        raise ScanError(name, "no orientation: the image has no affine, left and right are unknown")
    affine = np.array(image.affine, np.float64)
    if not isinstance(image, nib.analyze.AnalyzeImage):
        return affine, (), None
    shape, _ = check_shape(image.shape, name)
    raw, analyze = image.header.structarr, not isinstance(image, nib.nifti1.Nifti1Pair)
    version = 0 if analyze else 2 if isinstance(image, nib.nifti2.Nifti2Pair) else 1
    stated, notes, forms = _affine(raw, version, analyze, shape, name, "refuse")
    if not analyze:
        affine[:3] *= UNITS_MM.get(int(raw["xyzt_units"]) & 7, 1.0)
    return affine, notes, forms if np.allclose(affine, stated, atol=1e-4) else None


def _sform(raw: Any) -> Affine:
    affine = np.eye(4)
    with np.errstate(invalid="ignore"):  # a damaged header may hold signalling NaN
        affine[:3] = [np.asarray(raw[row], np.float64) for row in ("srow_x", "srow_y", "srow_z")]
    return affine


def _qform(raw: Any, version: int, name: str) -> Affine:
    """The qform; of `qfac` (pixdim[0]) only the sign counts, and 0 means 1, as NIfTI-1 says under 'Method 2'."""
    qfac = float(raw["pixdim"][0])
    if not np.isfinite(qfac):
        raise ScanError(name, f"bad affine: the qform's pixdim[0] is {qfac:g}; correct the header")
    raw = raw.copy()
    raw["pixdim"][0] = -1 if qfac < 0 else 1
    kind = nib.nifti2.Nifti2Header if version == 2 else nib.nifti1.Nifti1Header
    header: Any = kind(raw.tobytes(), endianness=raw.dtype["dim"].base.byteorder.replace("=", "<"), check=False)  # type: ignore[no-untyped-call]
    try:
        with np.errstate(all="ignore"):  # a damaged header may hold signalling NaN
            affine = np.asarray(header.get_qform(coded=False), np.float64)
    except (HeaderDataError, ValueError, FloatingPointError):
        raise ScanError(name, "bad affine: the qform's quaternion is not of unit length; correct the header") from None
    if not np.isfinite(affine).all():
        raise ScanError(name, "bad affine: the qform holds NaN or infinity; correct the header")
    return affine


def _disagreement(sform: Affine, qform: Affine | None, shape: tuple[int, int, int], name: str) -> list[str]:
    """A note where the two differ; refused where they disagree about left and right."""
    if qform is None:
        return []
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1).T
    apart = float(np.linalg.norm(apply_affine(sform, corners) - apply_affine(qform, corners), axis=1).max())
    if apart <= DISAGREE_MM + 0.1 * np.sqrt((sform[:3, :3] ** 2).sum(axis=0)).min():
        return []
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        raise ScanError(
            name, "left and right unknown: sform and qform are mirror images of each other; correct the header"
        )
    return [f"sform and qform lie {apart:.1f} mm apart, sform used"]


def read_voxels(header: Header) -> NDArray[Any]:
    """The voxel values (i, j, k), scaled; a gzip stream is read to its end to detect truncation.

    Raises:
        ScanError: truncated or damaged.
    """
    name, details = header.path.name, header.details
    stored = read_stored(details["volumes"], header.dtype, details["place"], name, header.remarks)
    return scaled(stored, details["slope"], details["intercept"], name)
