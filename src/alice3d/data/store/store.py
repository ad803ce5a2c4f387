"""A folder of prepared scans: compressed arrays with random access to any box, an index, and checksums."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from alice3d.config import nearest
from alice3d.data.store.arrays import open_array
from alice3d.data.store.index import REPAIR_ADVICE, Row, integers, joined, numbers, read_index, stats_text
from alice3d.data.store.spec import SPEC, StoreSpec, read_spec
from alice3d.errors import UserError
from alice3d.geometry import Grid

OPEN_ARRAYS = 256
"""Number of array handles that one process keeps open."""


@dataclass(frozen=True)
class Case:
    """One accepted scan.

    Attributes:
        id: file name without extension.
        split: "" where it is in none.
        shape: voxels along R, A, S.
        grid: of the stored array.
        stats: `mean`, `std`, `p005`, `p995` of the body's voxels; `min`, `max` of all.
        body_box_mm: low and high corner of the body, RAS mm.
        checksum: SHA-256 of the stored voxels and affine.
        content: SHA-256 of the source's voxels: the same scan in any format, under any name, at any spacing.
        source: relative to the folder the user gave.
        labelled: has a stored label.
        structures: label values that occur: what was contoured; () where unlabelled or healthy.
        label_checksum: SHA-256 of the stored label's voxels; "" where unlabelled.
        notes: remarks and repairs.
        patient: key of the patient, the same for all of its cases in this store; the id where none is known.
    """

    id: str
    split: str
    shape: tuple[int, int, int]
    grid: Grid
    stats: dict[str, float]
    body_box_mm: tuple[tuple[float, float, float], tuple[float, float, float]]
    checksum: str
    content: str
    source: str
    labelled: bool
    structures: tuple[int, ...]
    label_checksum: str = ""
    notes: str = ""
    patient: str = ""

    def __post_init__(self) -> None:
        if not self.patient:
            object.__setattr__(self, "patient", self.id)

    @property
    def healthy(self) -> bool:
        """Whether its label map is empty: all structures were looked for, and none is there."""
        return self.labelled and not self.structures

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along R, A, S."""
        x, y, z = (float(value) for value in self.grid.spacing_mm)
        return x, y, z

    @classmethod
    def of_row(cls, row: Row) -> Case:
        """Read a row of an accepted scan."""
        x, y, z = integers(row["shape"])
        low, high = numbers(row["body_low_mm"]), numbers(row["body_high_mm"])
        return cls(
            id=row["id"],
            split=row["split"],
            shape=(x, y, z),
            grid=Grid((x, y, z), np.array(numbers(row["affine"])).reshape(4, 4)),
            stats=json.loads(row["stats"]),
            body_box_mm=((low[0], low[1], low[2]), (high[0], high[1], high[2])),
            checksum=row["checksum"],
            content=row["content"],
            source=row["source"],
            labelled=bool(row["label"]),
            structures=integers(row["structures"]),
            label_checksum=row["label_checksum"],
            notes=row["notes"],
            patient=row.get("patient", ""),
        )

    def to_row(self) -> Row:
        """The cells that `of_row` reads."""
        return {
            "id": self.id,
            "split": self.split,
            "status": "taken",
            "reason": "",
            "source": self.source,
            "shape": joined(self.shape),
            "spacing_mm": joined(self.spacing_mm),
            "affine": joined(self.grid.affine.ravel()),
            "body_low_mm": joined(self.body_box_mm[0]),
            "body_high_mm": joined(self.body_box_mm[1]),
            "stats": stats_text(self.stats),
            "checksum": self.checksum,
            "content": self.content,
            "label": f"labels/{self.id}.b2nd" if self.labelled else "",
            "label_checksum": self.label_checksum,
            "structures": joined(self.structures),
            "notes": self.notes,
            "patient": self.patient if self.patient != self.id else "",
        }


def first_of_patient(patients: Mapping[str, str]) -> dict[str, str]:
    """Case id to the first case id of the same patient.

    Args:
        patients: case id to any key of its patient.
    """
    first: dict[str, str] = {}
    for name in sorted(patients):
        first.setdefault(patients[name], name)
    return {name: first[patients[name]] for name in sorted(patients)}


_limits: ContextVar[Mapping[Path, frozenset[str]]] = ContextVar("limits", default=MappingProxyType({}))


@contextmanager
def limited(folder: Path, ids: Iterable[str]) -> Iterator[None]:
    """Inside, a store opens with these cases alone: those that it had when a run of several steps began."""
    token = _limits.set({**_limits.get(), folder.resolve(): frozenset(ids)})
    try:
        yield
    finally:
        _limits.reset(token)


class Store:
    """A store, opened for reading; may be shared by threads, sent to other processes and opened by many at once.

    Attributes:
        path: the folder.
        spec: how its scans were prepared.
        refused: (id, source, reason) of each refused scan.
    """

    def __init__(self, path: Path, spec: StoreSpec, rows: list[Row]) -> None:
        self.path, self.spec = path, spec
        self.refused = [(row["id"], row["source"], row["reason"]) for row in rows if row["status"] != "taken"]
        self.rows = {row["id"]: row for row in rows if row["status"] == "taken"}
        self._cases = {name: Case.of_row(row) for name, row in sorted(self.rows.items())}
        self._handles: OrderedDict[tuple[int, str], Any] = OrderedDict()
        self._process = os.getpid()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | Path) -> Store:
        """Read the spec and the index; arrays are opened on first use.

        Raises:
            UserError: no store there, an unknown format version, or a damaged index.
        """
        folder = Path(path)
        spec = read_spec(folder)
        if spec is None:
            what = "no such folder" if not folder.exists() else f"no store there ({SPEC} is missing)"
            raise UserError(f"{folder}: {what}; make one by alice prepare SCANS {folder}")
        only = _limits.get().get(folder.resolve())
        try:
            rows = [row for row in read_index(folder) if only is None or row["id"] in only]
            return cls(folder, spec, rows)
        except (ValueError, IndexError, TypeError):
            raise UserError(f"{folder}: {REPAIR_ADVICE}") from None

    def cases(self, split: str | None = None) -> list[Case]:
        """The accepted cases, sorted by id; of one split where it is given."""
        return [case for case in self._cases.values() if split is None or case.split == split]

    def case(self, id: str) -> Case:
        """One case.

        Raises:
            UserError: not in the store; the message gives the nearest id or why it was refused.
        """
        if id in self._cases:
            return self._cases[id]
        for name, _, reason in self.refused:
            if name == id:
                raise UserError(f"{self.path}: case {id!r} was refused: {reason}")
        near = nearest(id, self._cases) if len(self._cases) <= 8 else nearest(id, self._cases).split(";")[0]
        near = near if len(near) < 120 else f"it holds {len(self._cases)} cases"
        raise UserError(f"{self.path}: no case {id!r}; {near}")

    @property
    def splits(self) -> list[str]:
        """Names of the splits with at least one case."""
        return sorted({case.split for case in self._cases.values()} - {""})

    @property
    def patients(self) -> dict[str, str]:
        """Case id to the first case id of its patient, which stands for the patient wherever patients are counted."""
        return first_of_patient({case.id: case.patient for case in self._cases.values()})

    @property
    def label_names(self) -> dict[int, str]:
        """Label value to name: as declared, and `label_3` for a value without one."""
        found = {value for case in self._cases.values() for value in case.structures}
        names = {value: f"label_{value}" for value in found} | self.spec.label_names
        return {value: names[value] for value in sorted(names)}

    @property
    def checksum(self) -> str:
        """SHA-256 over the spec, and the voxels, labels, split and patient of every accepted case."""
        return self.checksum_of(self._cases.values())

    def checksum_of(self, cases: Iterable[Case]) -> str:
        """SHA-256 over the spec, and the voxels, labels, split and patient of some cases, in whatever order.

        A patient counts by its first case among them, so that the salt of its key does not matter.
        """
        cases = sorted(cases, key=lambda case: case.id)
        spec = self.spec.model_dump(mode="json", exclude={"made_by", "intensity", "seed", "salt"})
        digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode())
        for case in cases:
            digest.update("\0".join((case.id, case.split, case.checksum, case.label_checksum, "\n")).encode())
        for name, first in first_of_patient({case.id: self.patients[case.id] for case in cases}).items():
            if name != first:
                digest.update("\0".join((name, first, "\n")).encode())
        return digest.hexdigest()

    def image(self, id: str) -> Any:
        """Handle of a case's voxels (R, A, S), int16 or float32: slice it; only the requested box is read."""
        return self._open(f"images/{self.case(id).id}.b2nd")

    def label(self, id: str) -> Any:
        """Handle of a case's label values (R, A, S).

        Raises:
            UserError: the case has no label.
        """
        if not self.case(id).labelled:
            raise UserError(f"{self.path}: case {id!r} has no label")
        return self._open(f"labels/{id}.b2nd")

    def _open(self, name: str) -> Any:
        if self._process != os.getpid():  # a forked child must not share its parent's handles
            self._handles, self._process, self._lock = OrderedDict(), os.getpid(), threading.Lock()
        key = (threading.get_ident(), name)  # a handle decompresses into its own buffers: one per thread
        with self._lock:
            handle = self._handles.get(key)
            if handle is None:
                handle = self._handles[key] = open_array(self.path / name)
                if len(self._handles) > OPEN_ARRAYS:
                    self._handles.popitem(last=False)
            return handle

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_handles", "_lock", "_process")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _handles=OrderedDict(), _lock=threading.Lock(), _process=os.getpid())
