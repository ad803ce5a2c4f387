"""Voxel bytes of files, compressed or not, read to the end of the stream to detect damage."""

from __future__ import annotations

import bz2
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from alice3d.io.volume import ScanError

Encoding = Literal["raw", "gzip", "zlib", "bzip2"]
GROWTH = {"raw": 1, "gzip": 1032, "zlib": 1032, "bzip2": 5_000_000}
"""Maximum compression ratio of each kind of stream (bzip2: a block of zeros)."""
CHUNK = 1 << 24
GZIP = b"\x1f\x8b"
TRAILING = "bytes after the end of its compressed stream, which is sound, are left out"
DAMAGED = (EOFError, zlib.error, ValueError)
"""Errors of decompressors on truncated or damaged streams; bz2 raises OSError without a number."""


class Inflating(io.RawIOBase):
    """A zlib or gzip stream as a file; checksums are checked, and gzip's further members are read on.

    Attributes:
        trailing: bytes follow the end of the stream that belong to none.
    """

    def __init__(self, file: IO[bytes], encoding: Encoding) -> None:
        self.file, self.bits = file, 31 if encoding == "gzip" else 15
        self.engine, self.packed, self.trailing = zlib.decompressobj(self.bits), b"", False

    def readable(self) -> bool:
        """True: this stream can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Decompress at most len(buffer) bytes; 0 at the end of a complete stream."""
        while not self.engine.eof or self._next_member():
            packed = self.packed or self.engine.unconsumed_tail or self.file.read(1 << 18)
            self.packed = b""
            piece = self.engine.decompress(packed, len(buffer))
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
            if not packed and not self.engine.eof:
                raise EOFError
        return 0

    def _next_member(self) -> bool:
        """Whether another gzip member follows, after any padding by zeros."""
        if self.trailing:
            return False
        rest = self.engine.unused_data.lstrip(b"\0")
        while len(rest) < 2 and (more := self.file.read(1 << 18)):
            rest = (rest + more).lstrip(b"\0")
        if self.bits == 31 and rest[:2] == GZIP:
            self.engine, self.packed = zlib.decompressobj(self.bits), rest
            return True
        self.trailing = bool(rest)
        return False


def is_gzip(path: Path, offset: int = 0) -> bool:
    """Whether a gzip stream begins at byte `offset` of a file, by its content and not by its name."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(2) == GZIP


def open_stream(path: Path, encoding: Encoding, offset: int = 0) -> IO[bytes]:
    """Open the compressed stream that begins at byte `offset` of a file."""
    file = path.open("rb")
    file.seek(offset)
    if encoding == "bzip2":
        return bz2.BZ2File(file)
    return file if encoding == "raw" else io.BufferedReader(Inflating(file, encoding), 1 << 16)


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


def read_bytes(
    path: Path, encoding: Encoding, offset: int, skip: int, size: int, name: str, remarks: list[str] | None = None
) -> NDArray[np.uint8]:
    """Exactly `size` bytes of voxels; see `read_pieces`."""
    (voxels,) = read_pieces(path, encoding, offset, skip, size, 1, name, remarks)
    return voxels


def read_pieces(
    path: Path,
    encoding: Encoding,
    offset: int,
    skip: int,
    size: int,
    count: int,
    name: str,
    remarks: list[str] | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Voxels in `count` pieces of `size` bytes; a compressed stream is read to its end, where its checksum is.

    Args:
        path: the file.
        encoding: compression.
        offset: byte of the file where the stream begins.
        skip: decompressed bytes before the voxels.
        size: decompressed bytes of each piece.
        count: of the pieces.
        name: for messages.
        remarks: gets a note where bytes follow the end of the stream.

    Raises:
        ScanError: truncated or damaged.
    """
    packed, done = encoding if encoding != "raw" else "file", 0
    try:
        with open_stream(path, encoding, offset) as stream:
            while skip and (piece := stream.read(min(skip, CHUNK))):
                skip -= len(piece)
            for _ in range(count):
                buffer, filled = np.empty(size, np.uint8), 0
                view = memoryview(buffer.data)
                while filled < size and (read := stream.readinto(view[filled : filled + CHUNK])):  # type: ignore[attr-defined]
                    filled, done = filled + read, done + read
                if filled < size:
                    what = f"it ends after {done:,} of {size * count:,} bytes"
                    raise ScanError(name, f"file too short: {what}; copy it again")
                yield buffer
            while encoding != "raw" and stream.read(CHUNK):
                pass
            if remarks is not None and getattr(getattr(stream, "raw", None), "trailing", False):
                remarks.append(TRAILING)
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # bz2 gives no number where a stream is damaged
            raise
        what = f"{done:,} of {size * count:,} bytes are there"
        raise ScanError(name, f"truncated or damaged {packed}: {what}; copy it again") from None


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
