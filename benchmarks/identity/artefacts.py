"""Reads what commands leave in a folder as named values, and says where two such folders differ."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import blosc2
import nibabel as nib
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors import safe_open

LEFT_OUT = frozenset(
    {
        *("version", "created_by", "made_by", "source_commit", "commit"),  # of the program
        "root",  # of the folder that scans were found in: a hash of its whole path is part of it
        *("seconds", "step_s", "monitor_s", "data_wait_s", "samples_per_s"),  # what a clock said
    }
)
"""Keys and columns that may differ between two runs of the same code."""
CHECKSUMS_LEFT_OUT = frozenset({"store.json", "index.csv"})
"""Lines of SHA256SUMS that may differ: the files hold the version and `root`. Their own values are compared."""
RENAMED = {
    "hidden_share": "mask_ratio",
    "trunk": "backbone_maps",
    "average": "ema_decay",
    "backbone_rate": "backbone_lr_scale",
}
"""Keys and columns whose name changed: the older name to the newer one. Either side may hold either."""
PAGES = frozenset({".html", ".png"})
"""Only whether they are there is compared: they are for reading, and hold dates and run times."""
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)
SHOWN = 60
"""Characters of a differing value that a row repeats."""

Leaf = str | int | float | bool | None
Value = Leaf | NDArray[Any]
State = Literal["equal", "there", "differs", "missing"]


@dataclass(frozen=True)
class Row:
    """What was found of one file.

    Attributes:
        name: path in the folder.
        state: `there` stands for a page, of which nothing more is compared.
        numbers: compared.
        said: what differs, with the first differing value of both sides; empty where nothing does.
    """

    name: str
    state: State
    numbers: int = 0
    said: str = ""

    @property
    def same(self) -> bool:
        """Whether both sides agree."""
        return self.state in ("equal", "there")


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Value]]:
    """Dotted names and values of nested mappings and lists, without what is left out, under the newer names."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            if key not in LEFT_OUT:
                yield from flat(item, f"{prefix}{RENAMED.get(key, key)}.")
    elif isinstance(value, list | tuple) and value:
        for number, item in enumerate(value):
            yield from flat(item, f"{prefix}{number}.")
    else:
        yield prefix.removesuffix("."), _leaf(value)


def _leaf(value: Any) -> Value:
    if isinstance(value, torch.Tensor):
        value = value.detach().contiguous()
        return np.asarray((value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy())
    if isinstance(value, np.ndarray | str | int | float) or value is None:
        return value
    return repr(value)  # an empty list, a date


def _tensors(path: Path) -> Iterator[tuple[str, Value]]:
    with safe_open(path, framework="pt") as file:
        yield from flat(file.metadata() or {}, "metadata.")
        for name in file.keys():  # noqa: SIM118 (it is no mapping)
            tensor = file.get_tensor(name)
            yield f"{name}.dtype", str(tensor.dtype)
            yield name, _leaf(tensor)


def _arrays(path: Path) -> Iterator[tuple[str, Value]]:
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            yield name, file[name]


def _label_map(path: Path) -> Iterator[tuple[str, Value]]:
    image: Any = nib.load(path)
    yield "voxels", np.asarray(image.dataobj)
    yield "affine", image.affine
    for name in image.header:
        yield f"header.{name}", np.asarray(image.header[name])


def _lines_of_json(path: Path) -> Iterator[tuple[str, Value]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        yield from flat(json.loads(line), f"{number}.")


def _table(path: Path) -> Iterator[tuple[str, Value]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.DictReader(stream)):
            yield from flat(row, f"{number}.")


def _checksums(path: Path) -> Iterator[tuple[str, Value]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        checksum, name = line.split(maxsplit=1)
        if name not in CHECKSUMS_LEFT_OUT:
            yield name, checksum


def _tables_of_page(path: Path) -> Iterator[tuple[str, Value]]:
    """Numbers in the tables of a Markdown page; the words around them may change."""
    rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    for number, row in enumerate(rows):
        for place, text in enumerate(NUMBER.findall(row)):
            yield f"row {number}.{place}", text


def _bytes(path: Path) -> Iterator[tuple[str, Value]]:
    yield "sha256", hashlib.sha256(path.read_bytes()).hexdigest()


READERS: dict[str, Callable[[Path], Iterable[tuple[str, Value]]]] = {
    ".safetensors": _tensors,
    ".pt": lambda path: flat(torch.load(path, map_location="cpu", weights_only=True)),
    ".npz": _arrays,
    ".b2nd": lambda path: [("voxels", np.asarray(blosc2.open(str(path), mode="r")[:]))],
    ".nii.gz": _label_map,
    ".json": lambda path: flat(json.loads(path.read_text(encoding="utf-8"))),
    ".jsonl": _lines_of_json,
    ".yaml": lambda path: flat(yaml.safe_load(path.read_text(encoding="utf-8"))),
    ".csv": _table,
    ".csv.gz": _table,
    ".md": _tables_of_page,
    "SHA256SUMS": _checksums,
}
"""How a file's name ends to how its values are read; of any other file the bytes are compared."""


def read_values(path: Path) -> dict[str, Value]:
    """Name to value of everything in a file that is compared.

    Raises:
        ValueError: two values have the same name, as where a file holds the older and the newer name of a key.
    """
    reader = next((reader for ending, reader in READERS.items() if path.name.endswith(ending)), _bytes)
    values: dict[str, Value] = {}
    for name, value in reader(path):
        if name in values:
            raise ValueError(f"{name} is there twice")
        values[name] = value
    return values


def numbers_in(value: Value) -> int:
    """How many numbers a value holds; a text that reads as a number is one."""
    if isinstance(value, np.ndarray):
        return int(value.size)
    if isinstance(value, bool) or value is None:
        return 0
    try:
        float(value)
    except ValueError:
        return 0
    return 1


def difference(before: Value, after: Value) -> str:
    """Where two values differ in a bit; empty where they do not."""
    if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray):
        same = type(before) is type(after) and repr(before) == repr(after)  # by text: NaN is NaN, -0.0 is not 0.0
        return "" if same else f"{_short(before)} != {_short(after)}"
    for what, one, two in (("dtype", before.dtype, after.dtype), ("shape", before.shape, after.shape)):
        if one != two:
            return f"{what} {one} != {two}"
    if before.tobytes() == after.tobytes():
        return ""
    bits = [np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8) for array in (before, after)]
    places = np.flatnonzero((bits[0] != bits[1]).any(axis=1))
    first = int(places[0])
    index = tuple(int(n) for n in np.unravel_index(first, before.shape))
    one, two = (array.reshape(-1)[first].item() for array in (before, after))
    return f"at {list(index)}: {one!r} != {two!r} ({len(places)} of {before.size} differ)"


def _short(value: Value) -> str:
    text = f"array {value.shape}" if isinstance(value, np.ndarray) else repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def compare_files(name: str, before: Path, after: Path) -> Row:
    """Compare a file that both sides have."""
    if before.suffix in PAGES:
        return Row(name, "there")
    try:
        one, two = read_values(before), read_values(after)
    except Exception as error:  # whatever a reader raises: the row says it, and the other files are still compared
        return Row(name, "differs", said=f"cannot be compared: {type(error).__name__}: {error}")
    found = []
    for key in {**one, **two}:
        if key not in one or key not in two:
            found.append(f"{key}: only {'after' if key in two else 'before'}")
        elif said := difference(one[key], two[key]):
            found.append(f"{key}: {said}")
    numbers = sum(map(numbers_in, one.values()))
    if not found:
        return Row(name, "equal", numbers)
    return Row(name, "differs", numbers, f"{len(found)} of {len({**one, **two})} values; first {found[0]}")


def compare_folders(before: Path, after: Path) -> list[Row]:
    """A row for each file that either folder holds, in the order of their names."""
    held = [
        {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        for folder in (before, after)
    ]
    rows = []
    for name in sorted({**held[0], **held[1]}):
        if name in held[0] and name in held[1]:
            rows.append(compare_files(name, held[0][name], held[1][name]))
        else:
            rows.append(Row(name, "missing", said=f"only {'before' if name in held[0] else 'after'}"))
    return rows


def identical(rows: list[Row]) -> bool:
    """Whether every file is the same on both sides; not where nothing was compared."""
    return bool(rows) and all(row.same for row in rows)


def verdict(rows: list[Row]) -> str:
    """The last line."""
    numbers = sum(row.numbers for row in rows)
    if identical(rows):
        return f"identical: {numbers} numbers in {len(rows)} files"
    return f"DIFFERENT: {sum(not row.same for row in rows)} of {len(rows)} files, {numbers} numbers compared"
