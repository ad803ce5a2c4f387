"""Arrays on disk: one compressed blosc2 file per image or label map."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from alice3d.errors import WorkFailed
from alice3d.files import replacing

CHUNK, BLOCK = 64, 32
"""Voxels per side of a chunk (compressed together) and of a block (decompressed together)."""


LARGE = 4 * 2**20
"""Bytes from which an array is compressed at a higher level."""


def level_for(size: int) -> int:
    """zstd level for an array of this many bytes: a large one is written once and read many times.

    Level 5 makes large CT volumes a twelfth smaller than level 1, is read as fast and written more slowly
    (benchmarks/results/store); small arrays take longer to open and to sync to disk than to read.
    """
    return 5 if size >= LARGE else 1


def filters_for(dtype: np.dtype[Any]) -> dict[str, list[Any]]:
    """Filters before zstd: byte shuffle; for int16 also differences of bytes.

    Differences save 5 % on noisy CT and 20 % on smooth CT and cost 2 % on CT with constant surroundings; they do not
    help float32 and labels (benchmarks/results/store).
    """
    if dtype == np.int16:
        return {"filters": [blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA], "filters_meta": [0, dtype.itemsize]}
    return {"filters": [blosc2.Filter.SHUFFLE]}


def write_array(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> str:
    """Write one .b2nd file (zstd), sync it to disk, then rename it to its name.

    The name itself is on disk after `sync_folders`; a row of the index whose file is missing is processed again.

    Args:
        path: images/<id>.b2nd or labels/<id>.b2nd.
        array: (x, y, z).
        affine: kept in the file with the voxels, so that the file can be read on its own.

    Returns:
        SHA-256 of the file.

    Raises:
        OSError: disk full, or the like; nothing is left behind.
    """
    chunks = tuple(min(CHUNK, n) for n in array.shape)
    packed = blosc2.asarray(
        np.ascontiguousarray(array),
        chunks=chunks,
        blocks=tuple(min(BLOCK, n) for n in chunks),
        cparams={
            "codec": blosc2.Codec.ZSTD,
            "clevel": level_for(array.nbytes),
            "nthreads": 1,
            **filters_for(array.dtype),
        },
    )
    packed.schunk.vlmeta["affine"] = [float(value) for value in affine.ravel()]
    content = packed.to_cframe()
    with replacing(path) as temporary:  # not written by blosc2: a full disk is then an OSError
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def open_array(path: Path) -> Any:
    """Open one .b2nd file for reading.

    Raises:
        WorkFailed: missing or damaged.
    """
    try:
        # One thread per reader: crops are small, and many readers run in parallel when loading data.
        return blosc2.open(str(path), mode="r", deserialize="safe", dparams={"nthreads": 1})
    except (OSError, RuntimeError, ValueError) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) or not path.exists() else "is damaged"
        raise WorkFailed(
            f"{path.parent.name}/{path.name} of {path.parent.parent} {what}; check by alice prepare --verify"
        ) from None
