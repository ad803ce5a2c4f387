"""Voxel bytes of files, compressed or not, read to the end of the stream to detect damage."""

from __future__ import annotations

import bz2
import gzip
import io
import zlib
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from alice3d.io.volume import ScanError

Encoding = Literal["raw", "gzip", "zlib", "bzip2"]
GROWTH = {"raw": 1, "gzip": 1032, "zlib": 1032, "bzip2": 5_000_000}
"""Maximum compression ratio of each kind of stream (bzip2: a block of zeros)."""
CHUNK = 1 << 24
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, ValueError)
"""Errors of decompressors on truncated or damaged streams; bz2 raises OSError without a number."""


class _Inflating(io.RawIOBase):
    """A zlib stream as a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.engine = file, zlib.decompressobj()

    def readable(self) -> bool:
        """True: this stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Decompress at most len(buffer) bytes; 0 at the end of a complete stream."""
        while not self.engine.eof:
            packed = self.engine.unconsumed_tail or self.file.read(1 << 18)
            piece = self.engine.decompress(packed, len(buffer))
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
            if not packed:
                raise EOFError
        return 0


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed by gzip, by its content and not by its name."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def open_stream(path: Path, encoding: Encoding, offset: int = 0) -> IO[bytes]:
    """Open the compressed stream that begins at byte `offset` of a file."""
    file = path.open("rb")
    file.seek(offset)
    if encoding == "gzip":
        return gzip.GzipFile(fileobj=file, mode="rb")  # type: ignore[return-value]
    if encoding == "bzip2":
        return bz2.BZ2File(file)
    return io.BufferedReader(_Inflating(file), 1 << 20) if encoding == "zlib" else file


def check_size(path: Path, encoding: Encoding, offset: int, promised: int, name: str) -> None:
    """Refuse a file smaller than its header states, before memory is allocated.

    Args:
        path: the file of the voxels.
        encoding: compression.
        offset: byte where the (compressed) voxels begin.
        promised: bytes of the decompressed voxels.
        name: for the message.
    """
    size = path.stat().st_size
    if promised > max(size - offset, 0) * GROWTH[encoding] + 64 * (encoding != "raw"):
        raise ScanError(
            name, f"file too short: {size:,} bytes where the header states {promised + offset:,}; copy it again"
        )


def read_bytes(path: Path, encoding: Encoding, offset: int, skip: int, size: int, name: str) -> NDArray[np.uint8]:
    """Exactly `size` bytes of voxels; a compressed stream is read to its end, where its checksum is.

    Args:
        path: the file.
        encoding: compression.
        offset: byte of the file where the stream begins.
        skip: decompressed bytes before the voxels.
        size: decompressed bytes of voxels.
        name: for messages.

    Raises:
        ScanError: truncated or damaged.
    """
    buffer = np.empty(size, np.uint8)
    view, filled = memoryview(buffer.data), 0
    packed = encoding if encoding != "raw" else "file"
    try:
        with open_stream(path, encoding, offset) as stream:
            while skip and (piece := stream.read(min(skip, CHUNK))):
                skip -= len(piece)
            while filled < size and (count := stream.readinto(view[filled : filled + CHUNK])):  # type: ignore[attr-defined]
                filled += count
            if filled < size:
                raise ScanError(name, f"file too short: it ends after {filled:,} of {size:,} bytes; copy it again")
            while encoding != "raw" and stream.read(CHUNK):
                pass
    except DAMAGED:
        raise ScanError(
            name, f"truncated or damaged {packed}: {filled:,} of {size:,} bytes are there; copy it again"
        ) from None
    except OSError as error:
        if error.errno is None:  # bz2
            raise ScanError(
                name, f"truncated or damaged {packed}: {filled:,} of {size:,} bytes are there; copy it again"
            ) from None
        raise
    return buffer


def shaped(buffer: NDArray[np.uint8], dtype: np.dtype[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Bytes to (i, j, k), i running fastest, in this machine's byte order."""
    array: NDArray[Any] = buffer.view(dtype).reshape(shape, order="F")
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def beside(header: Path, data_file: str) -> Path:
    """The data file that a header names.

    Raises:
        ScanError: it lies outside the header's folder, or is missing.
    """
    path = Path(data_file.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise ScanError(header.name, "its data file lies in another folder; keep header and data file in one folder")
    found = header.parent / path
    if not found.is_file():
        raise ScanError(header.name, f"header without its data file: {path.name} is missing")
    return found
