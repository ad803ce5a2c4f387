"""Reads NRRD (.nrrd, and .nhdr with its voxels beside it)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.geometry import Affine
from alice3d.io.stream import Encoding, beside, check_size, read_bytes, shaped
from alice3d.io.volume import Header, ScanError, Unoriented, check_shape, check_space, scaled, unoriented_affine

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
SIGNS = {"left": -1, "right": 1, "posterior": -1, "anterior": 1, "inferior": -1, "superior": 1}
SHORT = {"ras": "right-anterior-superior", "las": "left-anterior-superior", "lps": "left-posterior-superior"}
UNITS = {
    1.0: ("mm", "millimeter", "millimeters", "millimetre", "millimetres", ""),
    10.0: ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    1000.0: ("m", "meter", "meters", "metre", "metres"),
    0.001: ("um", "\xb5m", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
}
UNITS_MM = {word: factor for factor, words in UNITS.items() for word in words}


def read_header(path: Path, *, unoriented: Unoriented = "refuse") -> Header:
    """Read and check the header.

    Raises:
        ScanError: no NRRD, damaged, or not one plain volume.
    """
    name = path.name
    fields, offset = _fields(path)
    sizes = _integers(fields, "sizes", name)
    if len(sizes) != _integers(fields, "dimension", name)[0]:
        raise ScanError(name, f"bad header: dimension {fields['dimension']} with sizes {fields['sizes']}")
    vectors = _directions(fields, len(sizes), name)
    units_mm = _units_mm(fields, vectors, name)
    sizes, vectors = _without_plain_axes(sizes, vectors, name)
    shape, notes = check_shape(tuple(sizes), name)
    kind = next((code for code, names in TYPES.items() if fields.get("type", "").lower() in names), None)
    if kind is None:
        raise ScanError(name, f"unsupported voxel type: {fields.get('type', 'none')!r}; one number a voxel is needed")
    encoding = ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise ScanError(name, f"unsupported encoding: {fields.get('encoding', 'none')!r}; known are raw, gzip, bzip2")
    affine, space_notes = _affine(fields, vectors, units_mm, shape, name, unoriented)
    dtype = np.dtype(kind).newbyteorder(">" if fields.get("endian", "little").lower() == "big" else "<")
    voxels, offset, skip = _place(path, fields, encoding, offset, int(np.prod(shape)) * dtype.itemsize)
    check_size(voxels, encoding, offset, int(np.prod(shape)) * dtype.itemsize + skip, name)
    details = {"voxels": voxels, "offset": offset, "skip": skip, "encoding": encoding}
    return Header(path, "nrrd", shape, affine, dtype, (*notes, *space_notes), details)


def read_voxels(header: Header) -> NDArray[Any]:
    """The numbers (i, j, k).

    Raises:
        ScanError: truncated or damaged.
    """
    details, size = header.details, int(np.prod(header.shape)) * header.dtype.itemsize
    name = header.path.name
    buffer = read_bytes(details["voxels"], details["encoding"], details["offset"], details["skip"], size, name)
    return scaled(shaped(buffer, header.dtype, header.shape), 1, 0, name)


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """Fields of the header, names in lower case, and the byte after it; keys of other programs are left out."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        magic = file.readline(64)
        if not magic:
            raise ScanError(path.name, "empty file")
        if not re.fullmatch(rb"NRRD000[1-5]\r?\n", magic):
            raise ScanError(path.name, "wrong magic: not an NRRD file")
        while file.tell() < LONGEST_HEADER:
            line = file.readline(LONGEST_HEADER)
            if not line.strip():
                return fields, file.tell()
            text = line.decode("latin-1").strip()
            key, colon, value = text.partition(":")
            if not text.startswith("#") and colon and not value.startswith("="):
                fields[key.strip().lower()] = value.strip()
    raise ScanError(path.name, "bad header: it does not end")


def _integers(fields: dict[str, str], key: str, name: str) -> list[int]:
    text = fields.get(key, "")
    if not re.fullmatch(r"-?\d{1,18}(\s+-?\d{1,18})*", text):
        raise ScanError(name, f"bad header: {key} is {text[:40]!r}")
    return [int(word) for word in text.split()]


def _numbers(text: str, name: str, key: str) -> list[float]:
    try:
        return [float(word) for word in re.split(r"[\s,()]+", text.strip("() \t")) if word]
    except ValueError:
        raise ScanError(name, f"bad header: {key} is {text[:40]!r}") from None


def _directions(fields: dict[str, str], rank: int, name: str) -> list[list[float] | None]:
    """One vector (3,) in the header's units an axis, None where it is not an axis of space."""
    if "space directions" in fields:
        words = re.findall(r"none|\([^)]*\)", fields["space directions"].lower())
        vectors = [None if word == "none" else _numbers(word, name, "space directions") for word in words]
    else:
        steps = _numbers(fields.get("spacings", ""), name, "spacings")
        if len(steps) != rank:
            raise ScanError(name, "bad spacing: the header gives neither space directions nor spacings")
        kept = [axis for axis in range(rank) if np.isfinite(steps[axis])]
        vectors = [None] * rank
        for place, axis in enumerate(kept[:3]):
            vectors[axis] = [steps[axis] if other == place else 0.0 for other in range(3)]
    if len(vectors) != rank or any(vector is not None and len(vector) != 3 for vector in vectors):
        raise ScanError(name, "bad header: space directions do not fit the dimension")
    return vectors


def _units_mm(fields: dict[str, str], vectors: list[list[float] | None], name: str) -> list[float]:
    """Millimetres to the unit of each component of the vectors.

    `space units` are of the axes of space: of the components of the origin and of every direction, whichever axis of
    the array that is of. `units` are of the array's axes, and go with `spacings`. (Definition of the NRRD file format,
    sections 4 and 6, https://teem.sourceforge.net/nrrd/format.html.)
    """
    key, places = "space units", [0, 1, 2]
    if "space directions" not in fields and "units" in fields:
        key, places = "units", [axis for axis, vector in enumerate(vectors) if vector is not None]
    text = fields.get(key, "")
    units = [unit.strip().lower() for unit in re.findall(r'"([^"]*)"', text) or text.split()] or [""]
    if len(set(units)) == 1:  # one for all
        units = units[:1] * (len(vectors) + 3)
    if len(units) <= max(places, default=0):
        raise ScanError(name, f"bad header: {key} {text[:40]} do not fit the dimension")
    chosen = [units[place] for place in places]
    if any(unit not in UNITS_MM for unit in chosen):
        raise ScanError(name, f"unknown unit: {text[:40]}; mm is needed")
    factors = [UNITS_MM[unit] for unit in chosen]
    if "" in chosen and set(factors) != {1.0}:
        raise ScanError(name, f"unknown unit: {key} {text[:40]} leave an axis out; mm is needed")
    return factors


def _without_plain_axes(
    sizes: list[int], vectors: list[list[float] | None], name: str
) -> tuple[list[int], list[list[float] | None]]:
    """Drop axes of length 1 that are none of space; several numbers a voxel are refused."""
    plain = [size for size, vector in zip(sizes, vectors, strict=True) if vector is None]
    if any(size != 1 for size in plain) and len(sizes) > 3:
        shown = " x ".join(map(str, sizes))
        raise ScanError(
            name, f"{len(sizes)}D image: {shown} holds {max(plain)} numbers a voxel or volumes; split it into 3D files"
        )
    if len(sizes) - len(plain) == 3:
        kept = [(size, vector) for size, vector in zip(sizes, vectors, strict=True) if vector is not None]
        return [size for size, _ in kept], [vector for _, vector in kept]
    return sizes, vectors


def _affine(
    fields: dict[str, str],
    vectors: list[list[float] | None],
    units_mm: list[float],
    shape: tuple[int, int, int],
    name: str,
    unoriented: Unoriented,
) -> tuple[Affine, tuple[str, ...]]:
    if any(vector is None for vector in vectors):
        raise ScanError(name, "bad header: an axis has no direction in space")
    matrix = np.array(vectors, np.float64).T
    if not (np.isfinite(matrix).all() and (np.abs(matrix).sum(axis=0) > 0).all()):
        raise ScanError(name, f"bad spacing: space directions {fields.get('space directions', fields.get('spacings'))}")
    mm = np.array(units_mm)
    notes = ("header's unit is not mm, converted",) if (mm != 1).any() else ()
    matrix = matrix * mm[:, None]
    space = fields.get("space", "").lower()
    words = SHORT.get(space, space).split("-")
    if "space directions" not in fields or len(words) != 3 or any(word not in SIGNS for word in words):
        steps = np.sqrt((matrix**2).sum(axis=0))
        affine, more = unoriented_affine(steps, shape, unoriented, name, "no space is stated")
        return affine, (*notes, *more)
    affine = np.eye(4)
    signs = np.array([SIGNS[word] for word in words])
    affine[:3, :3] = matrix * signs[:, None]
    origin = _numbers(fields.get("space origin", "(0,0,0)"), name, "space origin")
    if len(origin) != 3:
        raise ScanError(name, f"bad header: space origin is {fields['space origin'][:40]!r}")
    affine[:3, 3] = np.array(origin) * signs * mm
    return check_space(affine, name), notes


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
