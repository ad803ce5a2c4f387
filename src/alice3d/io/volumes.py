"""One volume out of a file of several: which axes are of space, and which volume is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.io.stream import Encoding, read_bytes, read_pieces
from alice3d.io.volume import Header, ScanError, check_shape, listed_sides

FIRST, MEAN = "first", "mean"


@dataclass(frozen=True)
class Volumes:
    """The volumes of a file.

    Attributes:
        dims: of the file's array, the first runs fastest.
        axes: which three of them are i, j, k.
        chosen: number of the volume that is read, from 0; None: the mean of all.
    """

    dims: tuple[int, ...]
    axes: tuple[int, int, int]
    chosen: int | None = 0

    @property
    def count(self) -> int:
        """Number of volumes."""
        return math.prod(n for axis, n in enumerate(self.dims) if axis not in self.axes)


def choose(
    dims: Sequence[int], axes: Sequence[int], volume: str | None, name: str
) -> tuple[Volumes, tuple[int, int, int], tuple[str, ...]]:
    """The volume to read, its shape (i, j, k), and notes.

    Args:
        dims: of the file's array.
        axes: those of space, ascending.
        volume: `first`, `mean`, or a number from 0; "": not given; None: cannot be given here.
        name: of the file, for messages.

    Raises:
        ScanError: no volume, or several and none is chosen.
    """
    sides = tuple(dims[axis] for axis in axes)
    count = math.prod(n for axis, n in enumerate(dims) if axis not in axes)
    if any(n < 1 for n in dims) or len(sides) != 3 or count == 1:
        kept = sides if len(sides) == 3 and all(n > 0 for n in dims) else tuple(dims)
        shape, _ = check_shape(kept, name)
        notes = (f"{len(dims)}D with one volume, taken as 3D",) if len(dims) > 3 else ()
        return Volumes(tuple(dims), (axes[0], axes[1], axes[2]) if len(axes) == 3 else (0, 1, 2)), shape, notes
    what = f"{len(dims)}D image: {listed_sides(dims)} holds {count:,} volumes"
    if sides[0] == 1:
        what += " of one voxel along their first axis; is it an axis of channels? if so, move it to the end"
    elif not volume:
        what += "; split it into 3D files" if volume is None else "; choose one by --volume N, first or mean"
    if not volume or sides[0] == 1:
        raise ScanError(name, what)
    shape, _ = check_shape(sides, name)
    if volume == MEAN:
        return Volumes(tuple(dims), (axes[0], axes[1], axes[2]), None), shape, (f"mean of {count} volumes",)
    number = 0 if volume == FIRST else int(volume)
    if number >= count:
        raise ScanError(name, f"no volume {number}: it holds {count:,}, 0 to {count - 1}")
    return Volumes(tuple(dims), (axes[0], axes[1], axes[2]), number), shape, (f"volume {number} of {count}",)


def read_stored(
    volumes: Volumes,
    dtype: np.dtype[Any],
    place: tuple[Path, Encoding, int, int],
    name: str,
    remarks: list[str],
) -> NDArray[Any]:
    """Stored values (i, j, k) of the chosen volume, in this machine's byte order; float32 of a mean.

    Args:
        volumes: as `choose` gives them.
        dtype: of the stored values.
        place: file, compression, byte where the stream begins, and decompressed bytes to skip.
        name: for messages.
        remarks: gets notes on the stream.

    Raises:
        ScanError: truncated or damaged.
    """
    path, encoding, offset, skip = place
    count = volumes.count
    shape = tuple(volumes.dims[axis] for axis in volumes.axes)
    size = math.prod(shape) * dtype.itemsize
    if count == 1:
        buffer = read_bytes(path, encoding, offset, skip, size, name, remarks)
        return _native(buffer.view(dtype)).reshape(shape, order="F")
    if volumes.axes == (0, 1, 2):
        if volumes.chosen is not None:
            buffer = read_bytes(path, encoding, offset, skip + volumes.chosen * size, size, name, remarks)
            return _native(buffer.view(dtype)).reshape(shape, order="F")
        total = np.zeros(math.prod(shape), np.float64)
        for piece in read_pieces(path, encoding, offset, skip, size, count, name, remarks):
            total += piece.view(dtype)
        return (total / count).astype(np.float32).reshape(shape, order="F")
    stack = _all(volumes, dtype, place, name, remarks)
    if volumes.chosen is None:
        return np.asfortranarray(stack.mean(axis=3, dtype=np.float64).astype(np.float32))
    return np.asfortranarray(stack[..., volumes.chosen])


def read_layers(header: Header) -> NDArray[Any]:
    """All volumes of a file, stored values (i, j, k, n).

    Raises:
        ScanError: truncated or damaged.
    """
    details = header.details
    return _all(details["volumes"], header.dtype, details["place"], header.path.name, header.remarks)


def _all(
    volumes: Volumes, dtype: np.dtype[Any], place: tuple[Path, Encoding, int, int], name: str, remarks: list[str]
) -> NDArray[Any]:
    """Stored values (i, j, k, n) of all volumes."""
    path, encoding, offset, skip = place
    buffer = read_bytes(path, encoding, offset, skip, math.prod(volumes.dims) * dtype.itemsize, name, remarks)
    array = _native(buffer.view(dtype)).reshape(volumes.dims, order="F")
    others = [axis for axis in range(len(volumes.dims)) if axis not in volumes.axes]
    moved = array.transpose(*volumes.axes, *others)
    return moved.reshape(*moved.shape[:3], volumes.count, order="F")


def _native(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
