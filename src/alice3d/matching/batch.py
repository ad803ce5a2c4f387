"""The same work on many scans, kept as rows: an interrupted call resumes, and scans added later are processed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from alice3d.data.preprocessing.preprocess import prepare_array
from alice3d.data.sampling.whole_scan import ScanInput
from alice3d.data.sources.scan_list import ScanList
from alice3d.executors import DIED, Workers
from alice3d.files import write_text
from alice3d.io.volume import ScanError, Volume
from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.matcher import Matcher, Mode
from alice3d.memory import NO_MEMORY, within_memory

ROWS = "rows.jsonl"


class ScanRows:
    """Rows by case id; each holds `case`, `state` (see `ScanList.state`) and the results of the command.

    Args:
        folder: of the output.
        scans: rows of other scans, or of scans that have changed since, are dropped.
        anew: discard existing rows.
    """

    def __init__(self, folder: Path, scans: ScanList, *, anew: bool) -> None:
        self.path, self.scans = folder / ROWS, scans
        self.rows: dict[str, dict[str, Any]] = {} if anew else self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        """Lines that are complete and still valid."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        known, found = set(self.scans.ids), {}
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:  # truncated by a kill
                continue
            if row.get("reason") in (NO_MEMORY, DIED):  # there may be more memory another time
                continue
            if row["case"] in known and row["state"] == self.scans.state(row["case"]):
                found[row["case"]] = row
        return found

    @property
    def missing(self) -> list[str]:
        """Ids without a row."""
        return [id for id in self.scans.ids if id not in self.rows]

    def ordered(self) -> list[dict[str, Any]]:
        """Rows in the order of ids."""
        return [self.rows[id] for id in self.scans.ids]

    def tidy(self) -> None:
        """Rewrite the file without dropped rows; call it once before `add`."""
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows.values()))

    def add(self, id: str, found: dict[str, Any]) -> None:
        """Keep a scan's row; it is on disk when this returns."""
        row = {"case": id, "state": self.scans.state(id), **found}
        self.rows[id] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())


Found = dict[str, Any]


class ScanWork(Protocol):
    """The work on one scan; it is pickled once for each process."""

    def on(self, matcher: Matcher, id: str) -> Found:
        """The row of a scan; `reason` where it is refused."""
        ...


@dataclass(frozen=True)
class OpenMatcher:
    """How each process opens the matcher.

    Attributes:
        name: folder, file or shipped name.
        mode: direct or robust.
        device: device of the network.
        threads: of each process; 0 leaves them as they are.
    """

    name: str
    mode: Mode
    device: str
    threads: int

    def __call__(self) -> Matcher:
        if self.threads:
            torch.set_num_threads(self.threads)
        matcher = Matcher.load(self.name, device=self.device)
        matcher.mode = self.mode
        return matcher


_work: ScanWork | None = None


_matcher: Matcher | None = None


def _open(work: ScanWork, opened: OpenMatcher) -> None:
    global _work, _matcher
    _work, _matcher = work, opened()


def _on(id: str) -> tuple[str, Found]:
    assert _work is not None
    assert _matcher is not None
    return id, _work.on(_matcher, id)


def over_scans(
    work: ScanWork, ids: Sequence[str], matcher: Matcher, opened: OpenMatcher, *, jobs: int
) -> Iterator[tuple[str, Found]]:
    """Each scan's id and row, as they are finished; a scan on which a process died twice gets a `reason`.

    Args:
        work: on a scan.
        ids: of the scans.
        matcher: of this process, used where `jobs` is 1.
        opened: how the other processes open it.
        jobs: processes.
    """
    jobs = min(jobs, len(ids))
    if jobs <= 1:
        for id in ids:
            yield id, work.on(matcher, id)
        return
    with Workers(jobs, opening=_open, arguments=(work, opened)) as workers:
        yield from workers.run(_on, ids, lost=lambda id: (id, {"reason": DIED}))


def embed_scan(scans: ScanList, id: str, matcher: Matcher, volume: Volume | None = None) -> EmbeddedScan:
    """The embedding of a scan; `volume` if it was already read.

    Raises:
        ScanError: it cannot be read, is of another modality, or does not fit into memory.
    """
    with within_memory(partial(ScanError, id)):
        if scans.store is not None:
            return matcher.embed_case(scans.store, scans.store.case(id))
        prepared = prepare_array(
            volume or scans.volume(id),
            spacing_mm=matcher.spacing_mm,
            modality=matcher.rule.modality,
            name=scans.sources[id].name,
        )
        return matcher.embed(ScanInput.of_prepared(prepared, matcher.rule))
