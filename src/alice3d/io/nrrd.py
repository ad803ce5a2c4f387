"""Reads NRRD (.nrrd, and .nhdr with its voxels beside it)."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.io.nrrd_space import affine_of, directions, units_mm
from alice3d.io.segments import segments_of
from alice3d.io.stream import Encoding, beside, check_size
from alice3d.io.volume import Header, ScanError, Unoriented, scaled
from alice3d.io.volumes import FIRST, choose, read_stored

LONGEST_HEADER = 1 << 20
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
ENCODINGS: dict[str, Encoding] = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}


def read_header(path: Path, *, unoriented: Unoriented = "refuse", volume: str | None = None) -> Header:
    """Read and check the header.

    Raises:
        ScanError: no NRRD, damaged, or not one plain volume.
    """
    name = path.name
    fields, keys, offset = _fields(path)
    sizes = _integers(fields, "sizes", name)
    if len(sizes) != _integers(fields, "dimension", name)[0]:
        raise ScanError(name, f"bad header: dimension {fields['dimension']} with sizes {fields['sizes']}")
    vectors = directions(fields, len(sizes), name)
    factors = units_mm(fields, vectors, name)
    axes = [axis for axis, vector in enumerate(vectors) if vector is not None]
    axes = axes if len(axes) == 3 else list(range(min(len(sizes), 3)))
    segments = segments_of(keys, sizes, axes, name)
    volumes, shape, notes = choose(sizes, axes, FIRST if segments else volume, name)
    kind = next((code for code, names in TYPES.items() if fields.get("type", "").lower() in names), None)
    if kind is None:
        raise ScanError(name, f"unsupported voxel type: {fields.get('type', 'none')!r}; one number a voxel is needed")
    encoding = ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise ScanError(name, f"unsupported encoding: {fields.get('encoding', 'none')!r}; known are raw, gzip, bzip2")
    affine, space_notes = affine_of(fields, [vectors[axis] for axis in axes], factors, shape, name, unoriented)
    dtype = np.dtype(kind).newbyteorder(">" if fields.get("endian", "little").lower() == "big" else "<")
    size = math.prod(sizes) * dtype.itemsize
    voxels, offset, skip = _place(path, fields, encoding, offset, size)
    check_size(voxels, encoding, offset, size + skip, name)
    details: dict[str, Any] = {"volumes": volumes, "place": (voxels, encoding, offset, skip)}
    details["segments"] = segments
    return Header(path, "nrrd", shape, affine, dtype, (*notes, *space_notes), details)


def read_voxels(header: Header) -> NDArray[Any]:
    """The numbers (i, j, k).

    Raises:
        ScanError: truncated or damaged.
    """
    details, name = header.details, header.path.name
    return scaled(read_stored(details["volumes"], header.dtype, details["place"], name, header.remarks), 1, 0, name)


def _fields(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """Fields of the header, names in lower case; keys and values of other programs; and the byte after the header."""
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    with path.open("rb") as file:
        magic = file.readline(64)
        if not magic:
            raise ScanError(path.name, "empty file")
        if not re.fullmatch(rb"NRRD000[1-5]\r?\n", magic):
            raise ScanError(path.name, "not an NRRD file: no NRRD prefix")
        while file.tell() < LONGEST_HEADER:
            line = file.readline(LONGEST_HEADER)
            if not line.strip():
                return fields, keys, file.tell()
            text = _decoded(line).strip()
            key, colon, value = text.partition(":")
            if text.startswith("#") or not colon:
                continue
            if value.startswith("="):
                keys[key] = value[1:].replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
            else:
                fields[key.strip().lower()] = value.strip()
    raise ScanError(path.name, "bad header: it does not end")


def _decoded(line: bytes) -> str:
    """A line of the header: UTF-8 as Slicer writes it, else Latin-1."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _integers(fields: dict[str, str], key: str, name: str) -> list[int]:
    text = fields.get(key, "")
    if not re.fullmatch(r"-?\d{1,18}(\s+-?\d{1,18})*", text):
        raise ScanError(name, f"bad header: {key} is {text[:40]!r}")
    return [int(word) for word in text.split()]


def _place(path: Path, fields: dict[str, str], encoding: Encoding, offset: int, size: int) -> tuple[Path, int, int]:
    """File of the voxels, byte where the stream begins, and unpacked bytes to skip."""
    data_file = fields.get("data file", fields.get("datafile"))
    if data_file is not None and (data_file.upper().startswith("LIST") or re.search(r"%\d*d", data_file)):
        raise ScanError(path.name, "unsupported layout: voxels in several files; save it as one .nrrd")
    voxels = path if data_file is None else beside(path, data_file)
    offset = offset if data_file is None else 0
    lines = _integers({"line skip": "0", **fields}, "line skip", path.name)[0]
    with voxels.open("rb") as file:
        file.seek(offset)
        for n in range(lines):
            if not file.readline():
                raise ScanError(path.name, f"bad header: line skip is {lines}, the file ends after {n} lines")
        offset = file.tell()
    skip = _integers({"byte skip": "0", **fields}, "byte skip", path.name)[0]
    if skip == -1 and encoding == "raw":
        return voxels, max(voxels.stat().st_size - size, 0), 0
    if skip < 0:
        raise ScanError(path.name, f"bad header: byte skip is {skip}")
    return voxels, offset, skip
