"""What was done of many scans, a line each in a file: an interrupted call goes on, and scans added later are done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from alice3d.files import write_text
from alice3d.matching.scan_list import ScanList

ROWS = "rows.jsonl"


class ScanRows:
    """Rows by case id; each holds `case`, `state` (see `ScanList.state`) and whatever the command found.

    Args:
        folder: of the output.
        scans: rows of other scans, or of scans that have changed since, do not count.
        anew: forget what is there.
    """

    def __init__(self, folder: Path, scans: ScanList, *, anew: bool) -> None:
        self.path, self.scans = folder / ROWS, scans
        self.rows: dict[str, dict[str, Any]] = {} if anew else self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        """Lines that are whole and still true."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        known, found = set(self.scans.ids), {}
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:  # cut off by a kill
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
        """Write the file anew, without what does not count; call it once before `add`."""
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows.values()))

    def add(self, id: str, found: dict[str, Any]) -> None:
        """Keep a scan's row; it is on the disk when this returns."""
        row = {"case": id, "state": self.scans.state(id), **found}
        self.rows[id] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
