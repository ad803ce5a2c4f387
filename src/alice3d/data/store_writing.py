"""Writing side of a store: arrays that appear whole or not at all, a lock, and the manifest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from alice3d.data.index import INDEX, PARTS, Row, read_index, write_rows
from alice3d.data.store_spec import SPEC
from alice3d.errors import UserError
from alice3d.files import UNFINISHED, file_sha256, replacing, write_text

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

MANIFEST = "SHA256SUMS"
"""In the form that `sha256sum --check` reads."""
FOLDERS = ("images", "labels")
CHUNK, BLOCK = 64, 32
"""Voxels a side of what is compressed as one piece, and of what is decompressed as one piece."""


LARGE = 4 * 2**20
"""Bytes from which an array is packed harder."""


def level_for(size: int) -> int:
    """zstd level for an array of so many bytes: a large one is written once and read a thousand times.

    Level 5 makes large CT volumes a twelfth smaller than level 1, is read as fast and written more slowly
    (benchmarks/results/store); small arrays take longer to open and to force to disk than to read.
    """
    return 5 if size >= LARGE else 1


def filters_for(dtype: np.dtype[Any]) -> dict[str, list[Any]]:
    """What is done to the numbers before zstd: bytes of like weight together; of int16 their differences.

    Differences save 5 % on noisy CT and 20 % on smooth CT and cost 2 % on CT with blank surroundings; they do not help
    float32 and labels (benchmarks/results/store).
    """
    if dtype == np.int16:
        return {"filters": [blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA], "filters_meta": [0, dtype.itemsize]}
    return {"filters": [blosc2.Filter.SHUFFLE]}


def write_array(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> str:
    """Write one .b2nd file (zstd), force it to disk, then give it its name.

    The name itself is on disk after `sync_folders`; a row of the index whose file is missing is done again.

    Args:
        path: images/<id>.b2nd or labels/<id>.b2nd.
        array: (x, y, z).
        affine: kept in the file beside the voxels, so that the file can be read on its own.

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
    with replacing(path) as temporary:  # written by ourselves: a full disk is then an OSError, not a broken file
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def sync_folders(store: Path) -> None:
    """Force the names of a store's arrays to disk, where the system can."""
    for name in FOLDERS:
        try:
            handle = os.open(store / name, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.fsync(handle)
        except OSError:
            pass
        finally:
            os.close(handle)


@contextmanager
def locked(folder: Path, shard: tuple[int, int] | None = None) -> Iterator[None]:
    """Hold the store for writing: one writer, or the shards of one job array, each once.

    Raises:
        UserError: somebody else is writing to it, or it cannot be written.
    """
    names = [(".lock", shard is None), *([(f".lock-{shard[0]}-of-{shard[1]}", True)] if shard else [])]
    held: list[int] = []
    try:
        for name, alone in names if fcntl is not None else ():
            try:
                handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
            except OSError as error:
                raise UserError(
                    f"{folder / name}: cannot be opened for writing ({error.strerror}); make the store writable for you"
                ) from None
            held.append(handle)
            try:
                fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{folder}: another alice prepare is writing to it; wait for it, or stop it") from None
            except OSError:  # a file system without locks
                pass
        yield
    finally:
        for handle in held:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what interrupted calls left unfinished; only under the lock of a sole writer."""
    for place in (folder, *(folder / name for name in FOLDERS)):
        for path in place.glob(f"{UNFINISHED}*"):
            path.unlink(missing_ok=True)


def fold(folder: Path, rows: list[Row] | None = None) -> list[Row]:
    """Merge the parts of a job array into index.csv, drop arrays without a row, write the manifest.

    Args:
        folder: the store, held by a sole writer.
        rows: what the index shall hold; the union of all parts where not given.

    Returns:
        the rows.
    """
    rows = read_index(folder) if rows is None else rows
    write_rows(folder / INDEX, rows)
    for part in folder.glob(PARTS):
        part.unlink()
    known = {f"images/{row['id']}.b2nd" for row in rows if row["status"] == "taken"}
    known |= {row["label"] for row in rows if row["label"]}
    for name in FOLDERS:
        for path in (folder / name).glob("*.b2nd"):
            if f"{name}/{path.name}" not in known:
                path.unlink()
    write_manifest(folder, rows)
    return rows


def write_manifest(folder: Path, rows: list[Row]) -> None:
    """SHA-256 of every file of the store."""
    lines = []
    for row in rows:
        if row["status"] == "taken":
            lines.append(f"{row['image_sha256']}  images/{row['id']}.b2nd")
            if row["label"]:
                lines.append(f"{row['label_sha256']}  {row['label']}")
    lines += [f"{file_sha256(folder / name)}  {name}" for name in (INDEX, SPEC)]
    write_text(folder / MANIFEST, "\n".join(lines) + "\n")


def unseal(folder: Path) -> None:
    """Take the index and the spec out of the manifest before they change; `fold` puts them back."""
    path = folder / MANIFEST
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if line.partition("  ")[2] not in (INDEX, SPEC)]
    if len(kept) < len(lines):
        write_text(path, "".join(f"{line}\n" for line in kept))


def verify(folder: Path, rows: list[Row]) -> list[tuple[str, str]]:
    """Compare every file with its checksum; the index and the spec only where no call is under way or was stopped.

    Returns:
        (file, what is wrong) of each damaged one.
    """
    wanted = [(f"images/{row['id']}.b2nd", row["image_sha256"]) for row in rows if row["status"] == "taken"]
    wanted += [(row["label"], row["label_sha256"]) for row in rows if row["label"]]
    manifest = folder / MANIFEST
    if manifest.exists():
        lines = [line.partition("  ") for line in manifest.read_text(encoding="utf-8", errors="replace").splitlines()]
        wanted += [(name, checksum) for checksum, _, name in lines if name in (INDEX, SPEC)]
    faults = []
    for name, checksum in wanted:
        path = folder / name
        try:
            found = file_sha256(path)
        except FileNotFoundError:
            faults.append((name, "is missing"))
            continue
        except OSError as error:
            faults.append((name, f"cannot be read ({error.strerror})"))
            continue
        if found != checksum:
            faults.append((name, "has changed since it was written (checksum differs)"))
    return faults
