"""The pairs table: matched points between patients, one row per point, and the maps that its accepted rows define."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from alice3d import files
from alice3d.data.pairs.correspondence import MIN_ROWS, Correspondence, fit_correspondence
from alice3d.errors import UserError

FORMAT_VERSION = 1
TABLE = "pairs.npz"
CARD = "pairs.json"
COLUMNS: dict[str, tuple[str, int]] = {
    "query_mm": ("<f4", 3),
    "key_mm": ("<f4", 3),
    "similarity": ("<f4", 1),
    "cycle_mm": ("<f4", 1),
    "fit_mm": ("<f4", 1),
    "far_10mm": ("<f4", 1),
    "accepted": ("|b1", 1),
}
"""Name to type and values per row. In the file each is (rows,) or (rows, 3); see `write_table`."""
NUMBERS = ("similarity", "cycle_mm", "fit_mm", "far_10mm")
"""Columns with one value per row."""
LATER = {"far_10mm": np.nan}
"""Columns that tables of an earlier version lack, and their default."""
MIN_ACCEPTED = max(20, MIN_ROWS)
"""Scan pairs with fewer accepted rows define no correspondence."""
CACHED = 1024
"""Correspondences kept in memory, about 0.5 MB each at the most."""


@dataclass(frozen=True)
class PairRows:
    """The rows of one scan pair.

    Attributes:
        query_mm, key_mm: (n, 3) RAS mm, the point and its match (half of the rows were matched from the key's side).
        similarity: (n,) mean cosine of the fine and the coarse embedding, -1 .. 1.
        cycle_mm: (n,) distance of the point that was matched from itself after matching there and back.
        fit_mm: (n,) distance of the match from the map fitted to the pair's other matches (robust affine and smooth
            field).
        far_10mm: (n,) probability that the match is more than 10 mm off; NaN where the matcher is not calibrated.
        accepted: (n,) bool.
    """

    query_mm: NDArray[np.float32]
    key_mm: NDArray[np.float32]
    similarity: NDArray[np.float32]
    cycle_mm: NDArray[np.float32]
    fit_mm: NDArray[np.float32]
    far_10mm: NDArray[np.float32]
    accepted: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.query_mm)

    @property
    def usable(self) -> bool:
        """Whether enough rows are accepted to define a correspondence."""
        return int(self.accepted.sum()) >= MIN_ACCEPTED


def _shape(name: str, rows: int) -> tuple[int, ...]:
    width = COLUMNS[name][1]
    return (rows,) if width == 1 else (rows, width)


def write_part(path: Path, rows: PairRows) -> None:
    """Write one scan pair's rows; the file is written atomically, so that an interrupted run can resume."""
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        columns = {name: np.asarray(getattr(rows, name), dtype) for name, (dtype, _) in COLUMNS.items()}
        np.savez_compressed(file, allow_pickle=False, **columns)


def read_part(path: Path) -> PairRows | None:
    """Rows of a part; None where it is missing or damaged, so that it is made again."""
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in COLUMNS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    rows = len(columns["query_mm"])
    return PairRows(**columns) if all(columns[name].shape == _shape(name, rows) for name in COLUMNS) else None


def write_table(
    folder: Path, scan_pairs: Sequence[tuple[str, str]], parts: Sequence[Path], card: dict[str, Any]
) -> str:
    """Merge the parts into `pairs.npz` and write `pairs.json`; one part is in memory at a time.

    Layout of `pairs.npz` (compressed, no pickle): `cases` (c,) ids; `scan_pairs` (p, 2) int32 query and key as
    indices into `cases`; `first_row` (p + 1,) int64, the rows of scan pair i are first_row[i] .. first_row[i + 1]; and
    the columns of `COLUMNS`, float32 mm, one row per matched point.

    Args:
        scan_pairs: (query, key) ids.
        parts: file of each scan pair, by `write_part`.
        card: store and matcher checksums, settings; format version, counts and `checksum` are filled in.

    Returns:
        SHA-256 of the content.
    """
    cases = sorted({name for pair in scan_pairs for name in pair})
    place = {name: n for n, name in enumerate(cases)}
    counts, accepted, usable = [], 0, 0
    for path in parts:
        rows = _part(path)
        counts.append(len(rows))
        accepted += int(rows.accepted.sum())
        usable += rows.usable
    total = int(sum(counts))
    digest = hashlib.sha256()
    with (
        files.replacing(folder / TABLE) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
    ):
        index = {
            "cases": np.asarray(cases, dtype=np.str_),
            "scan_pairs": np.asarray([[place[a], place[b]] for a, b in scan_pairs], "<i4").reshape(-1, 2),
            "first_row": np.concatenate([[0], np.cumsum(counts)]).astype("<i8"),
        }
        for name, array in index.items():
            _write_column(file, digest, name, array.dtype.str, array.shape, iter([array]))
        for name, (dtype, _) in COLUMNS.items():
            chunks = (np.asarray(getattr(_part(path), name)) for path in parts)
            _write_column(file, digest, name, dtype, _shape(name, total), chunks)
    checksum = digest.hexdigest()
    counted = {"scan_pairs": len(scan_pairs), "usable": usable, "rows": total, "accepted": accepted}
    full = {"format_version": FORMAT_VERSION, **card, **counted, "checksum": checksum}
    files.write_text(folder / CARD, json.dumps(full, indent=1))
    return checksum


def _part(path: Path) -> PairRows:
    rows = read_part(path)
    if rows is None:
        raise UserError(f"{path.name}: part of the pairs table is missing or damaged; run alice pair again")
    return rows


def _write_column(
    file: zipfile.ZipFile, digest: Any, name: str, dtype: str, shape: tuple[int, ...], chunks: Iterator[NDArray[Any]]
) -> None:
    """One .npy member, written in chunks; with a fixed date, so that equal tables give equal files."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    with file.open(member, "w", force_zip64=True) as out:
        out.write(header.getvalue())
        digest.update(header.getvalue())
        for chunk in chunks:
            raw = np.ascontiguousarray(chunk, dtype).tobytes()
            out.write(raw)
            digest.update(raw)


class PairsTable:
    """A pairs table on disk. `scan_pairs()` lists what can be used, `correspondence(a, b)` maps points between two.

    >>> table = PairsTable.open(Path("pairs"))                              # doctest: +SKIP
    >>> table.correspondence("hn_001", "hn_002").map([[10.0, -20.0, 30.0]])  # doctest: +SKIP
    """

    def __init__(self, card: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        self.card = card
        self._columns = {name: arrays[name] for name in COLUMNS}
        self._cases = [str(name) for name in arrays["cases"]]
        self._first = arrays["first_row"]
        self._place = {(self._cases[a], self._cases[b]): n for n, (a, b) in enumerate(arrays["scan_pairs"].tolist())}
        self._cache: OrderedDict[tuple[str, str], Correspondence] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Read a table and check it against its checksum.

        Raises:
            UserError: missing, unfinished, damaged or of an unknown format.
        """
        folder = Path(folder)
        if not (folder / CARD).is_file() or not (folder / TABLE).is_file():
            raise UserError(f"{folder}: no pairs table there ({CARD}, {TABLE}); make one with alice pair")
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            version = card["format_version"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{folder / CARD}: not the card of a pairs table; make it again with alice pair") from None
        if version != FORMAT_VERSION:
            raise UserError(f"{folder / CARD}: format_version {version!r} is unknown (known: {FORMAT_VERSION})")
        names = ("cases", "scan_pairs", "first_row", *COLUMNS)
        digest = hashlib.sha256()
        arrays: dict[str, NDArray[Any]] = {}
        try:
            with zipfile.ZipFile(folder / TABLE) as file:
                held = set(file.namelist())
                for name in names:
                    if name in LATER and f"{name}.npy" not in held:
                        arrays[name] = np.full(len(arrays["query_mm"]), LATER[name], np.float32)
                        continue
                    raw = file.read(f"{name}.npy")
                    digest.update(raw)
                    arrays[name] = np.load(io.BytesIO(raw), allow_pickle=False)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{folder / TABLE}: not a readable pairs table ({error}); make it again") from None
        if digest.hexdigest() != card.get("checksum"):
            raise UserError(f"{folder / TABLE}: its content differs from the checksum in {CARD}; make it again")
        return cls(card, arrays)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_cache", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _cache=OrderedDict(), _lock=threading.Lock())

    def __len__(self) -> int:
        return int(self._first[-1])

    def scan_pairs(self, *, usable: bool = True) -> list[tuple[str, str]]:
        """(query, key) ids in the table's order; with `usable`, only those with enough accepted rows."""
        accepted = np.concatenate([[0], np.cumsum(self._columns["accepted"], dtype=np.int64)])
        counts = accepted[self._first[1:]] - accepted[self._first[:-1]]
        return [pair for pair, n in self._place.items() if not usable or counts[n] >= MIN_ACCEPTED]

    def rows(self, query: str, key: str) -> PairRows:
        """All rows of one scan pair; where the table holds the reverse pair, with query and key exchanged.

        Raises:
            UserError: no such pair.
        """
        turned = (query, key) not in self._place
        n = self._place.get((key, query) if turned else (query, key))
        if n is None:
            raise UserError(f"pairs table: no rows for query {query!r} and key {key!r}")
        columns = {name: column[self._first[n] : self._first[n + 1]] for name, column in self._columns.items()}
        if turned:
            columns["query_mm"], columns["key_mm"] = columns["key_mm"], columns["query_mm"]
        return PairRows(**columns)

    def correspondence(self, query: str, key: str) -> Correspondence:
        """The map that the accepted rows of a scan pair define; the latest `CACHED` are kept.

        Raises:
            UserError: no such pair, or too few accepted rows.
        """
        with self._lock:  # samples are read by several threads
            known = self._cache.get((query, key))
            if known is not None:
                self._cache.move_to_end((query, key))
                return known
        rows = self.rows(query, key)
        if not rows.usable:
            raise UserError(
                f"pairs table: {int(rows.accepted.sum())} accepted rows for query {query!r} and key {key!r}, "
                f"{MIN_ACCEPTED} are needed"
            )
        keep = rows.accepted
        made, _ = fit_correspondence(rows.query_mm[keep], rows.key_mm[keep])
        with self._lock:
            self._cache[query, key] = made
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return made

    def write_csv(self, path: Path) -> None:
        """Write the table as gzipped CSV, one row per matched point, for other programs."""
        with gzip.open(path, "wt", newline="", encoding="utf-8", compresslevel=1) as stream:
            writer = csv.writer(stream)
            axes = [f"{side}_{axis}_mm" for side in ("query", "key") for axis in "xyz"]
            writer.writerow(["query", "key", *axes, *NUMBERS, "accepted"])
            for query, key in self._place:
                rows = self.rows(query, key)
                numbers = np.column_stack(
                    [rows.query_mm, rows.key_mm, *(getattr(rows, name) for name in NUMBERS)]
                ).tolist()
                for row, accepted in zip(numbers, rows.accepted.tolist(), strict=True):
                    writer.writerow([query, key, *(f"{value:.4g}" for value in row), int(accepted)])
