"""Reads MetaImage (.mha, and .mhd with a data file), as ITK writes it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.io.stream import Encoding, beside, check_size, is_gzip
from alice3d.io.volume import Header, ScanError, Unoriented, check_space, scaled
from alice3d.io.volumes import choose, read_stored

LONGEST_HEADER = 1 << 18
TYPES = {"UCHAR": "u1", "CHAR": "i1", "USHORT": "u2", "SHORT": "i2", "UINT": "u4", "INT": "i4", "ULONG": "u4"}
TYPES |= {"LONG": "i4", "ULONG_LONG": "u8", "LONG_LONG": "i8", "FLOAT": "f4", "DOUBLE": "f8"}
"""ElementType without MET_; LONG has four bytes in MetaIO, whatever the machine."""
TRUE = {"true", "1", "yes", "t"}


def read_header(path: Path, *, unoriented: Unoriented = "refuse", volume: str | None = None) -> Header:
    """Read and check the header; the space of a MetaImage is LPS mm, so `unoriented` is never needed.

    Raises:
        ScanError: not a MetaImage, damaged, or not a single volume.
    """
    name = path.name
    fields, offset = _fields(path)
    sides = _numbers(fields, "DimSize", name)
    rank = len(sides)
    if _numbers(fields, "NDims", name) != [rank] or not all(side.is_integer() for side in sides):
        raise ScanError(name, f"bad header: NDims {fields['NDims'][:20]!r} with DimSize {fields['DimSize'][:40]!r}")
    channels = fields.get("ElementNumberOfChannels", "1")
    if channels.strip() != "1":
        raise ScanError(name, f"unsupported voxel type: {channels[:20]} values per voxel; one is needed")
    dims = tuple(int(side) for side in sides)
    volumes, shape, notes = choose(dims, range(min(rank, 3)), volume, name)
    kind = TYPES.get(fields.get("ElementType", "").upper().removeprefix("MET_"))
    if kind is None:
        raise ScanError(name, f"unsupported voxel type: {fields.get('ElementType', 'none')[:40]!r}")
    affine = _affine(fields, rank, name)
    order = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
    dtype = np.dtype(kind).newbyteorder(">" if order.lower() in TRUE else "<")
    size = math.prod(dims) * dtype.itemsize
    voxels, offset, encoding = _place(path, fields, offset, size)
    check_size(voxels, encoding, offset, size, name)
    details: dict[str, Any] = {"volumes": volumes, "place": (voxels, encoding, offset, 0)}
    for key, field, default in (("slope", "Slope", 1.0), ("intercept", "Offset", 0.0)):
        given = fields.get(f"ElementToIntensityFunction{field}")
        details[key] = default if given is None else _numbers({"scaling": given}, "scaling", name)[0]
    return Header(path, "metaimage", shape, affine, dtype, notes, details)


def read_voxels(header: Header) -> NDArray[Any]:
    """The voxel values (i, j, k), scaled.

    Raises:
        ScanError: truncated or damaged.
    """
    details, name = header.details, header.path.name
    stored = read_stored(details["volumes"], header.dtype, details["place"], name, header.remarks)
    return scaled(stored, details["slope"], details["intercept"], name)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header and the byte after it."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < LONGEST_HEADER:
            line = file.readline(LONGEST_HEADER)
            if not line:
                break
            key, equals, value = line.decode("utf-8", "surrogateescape").partition("=")
            # ITK also writes what the scan's first format said, with keys such as `dim[0]` and `0008|0060`, and values
            # of several lines.
            if not fields and (not equals or not key.strip().isascii()):
                break
            if equals:
                fields[key.strip()] = value.strip()
            if key.strip() == "ElementDataFile":
                return fields, file.tell()
        if path.stat().st_size == 0:
            raise ScanError(path.name, "empty file")
    what = (
        "bad header: it does not end in ElementDataFile"
        if "NDims" in fields
        else "not a MetaImage file: no MetaImage header"
    )
    raise ScanError(path.name, what)


def _numbers(fields: dict[str, str], key: str, name: str) -> list[float]:
    try:
        values = [float(word) for word in fields[key].split()]
    except KeyError:
        kind = "bad spacing" if key == "ElementSpacing" else "bad header"
        raise ScanError(name, f"{kind}: {key} is missing") from None
    except ValueError:
        raise ScanError(name, f"bad header: {key} is {fields[key][:40]!r}") from None
    if not values or not np.isfinite(values).all():
        kind = "bad spacing" if key == "ElementSpacing" else "bad header"
        raise ScanError(name, f"{kind}: {key} is {fields[key][:40]!r}")
    return values


def _affine(fields: dict[str, str], rank: int, name: str) -> NDArray[np.float64]:
    spacing_key = "ElementSize" if "ElementSize" in fields and "ElementSpacing" not in fields else "ElementSpacing"
    spacing = _numbers(fields, spacing_key, name)
    if len(spacing) != rank or any(mm <= 0 for mm in spacing[:3]):
        raise ScanError(name, f"bad spacing: {spacing_key} is {fields[spacing_key][:40]!r} mm; correct the header")
    directions = np.eye(rank)
    for key in ("TransformMatrix", "Rotation", "Orientation"):
        if key in fields:
            values = _numbers(fields, key, name)
            if len(values) != rank * rank:
                raise ScanError(name, f"bad header: {key} holds {len(values)} numbers, expected {rank * rank}")
            directions = np.array(values).reshape(rank, rank).T  # the file gives one axis after the other
            break
    origin = np.zeros(rank)
    for key in ("Offset", "Position", "Origin"):
        if key in fields:
            origin = np.array(_numbers(fields, key, name))
            break
    if len(origin) != rank:
        raise ScanError(name, f"bad header: the origin holds {len(origin)} numbers, expected {rank}")
    to_ras = np.array([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = directions[:3, :3] * spacing[:3] * to_ras[:, None]
    affine[:3, 3] = origin[:3] * to_ras
    return check_space(affine, name)


def _place(path: Path, fields: dict[str, str], offset: int, size: int) -> tuple[Path, int, Encoding]:
    """File of the voxels, offset in bytes, and compression."""
    if fields.get("BinaryData", "True").lower() not in TRUE:
        raise ScanError(path.name, "unsupported encoding: voxels as text; save it in binary form")
    packed = fields.get("CompressedData", "False").lower() in TRUE
    data_file = fields["ElementDataFile"]
    several = "%" in data_file and not (path.parent / data_file).is_file()
    if data_file.split()[:1] == ["LIST"] or several:
        raise ScanError(path.name, "unsupported layout: voxels in several files; save it as one .mha")
    if data_file.upper() != "LOCAL":
        voxels, offset = beside(path, data_file), 0
        skip = int(_numbers({"HeaderSize": "0", **fields}, "HeaderSize", path.name)[0])
        offset = max(voxels.stat().st_size - size, 0) if skip == -1 else max(skip, 0)
    else:
        voxels = path
    if not packed:
        return voxels, offset, "raw"
    return voxels, offset, "gzip" if is_gzip(voxels, offset) else "zlib"  # as MetaIO, which inflates both
