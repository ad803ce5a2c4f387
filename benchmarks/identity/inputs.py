"""Makes the scans and tables that the calls of `steps.py` read, in the folder where it is run.

It is run by `compare.py` with the package of one side on its path. Only the writer of generated patients is taken from
there: it has no command of its own.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import alice3d

WRITERS = ("alice3d.phantom.files", "alice3d.data.phantom_files")
"""Where `write_phantoms` is, the newer place first."""
SPLITS = {"pretrain": 4, "train": 3, "val": 2, "test": 2}
STRUCTURES = ("heart", "liver")
POINT = ("x_mm", "y_mm", "z_mm")
WRITTEN = 1_600_000_000
"""Time given to every scan and label map, in seconds since 1970: stores and tables keep it to notice changes."""


def find_writer() -> Callable[..., Any]:
    """`write_phantoms` of the package that is on the path."""
    for name in WRITERS:
        with contextlib.suppress(ModuleNotFoundError):
            writer: Callable[..., Any] = importlib.import_module(name).write_phantoms
            return writer
    raise SystemExit(f"no writer of generated patients in {' or '.join(WRITERS)}")


def write_table(path: Path, columns: tuple[str, ...], rows: list[dict[str, str]]) -> None:
    """Write those columns of the rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def write_inputs(folder: Path) -> None:
    """Write `scans/` (11 patients), `few/` (two of its scans), and tables of landmarks and classes."""
    made = find_writer()(folder / "scans", SPLITS, seed=3, spacing_mm=(8.0, 9.0))
    few = made.cases["test"]
    (folder / "few").mkdir(exist_ok=True)
    for case in few:
        shutil.copy(made.images / f"{case}.nii.gz", folder / "few")
    for path in sorted(folder.rglob("*.nii.gz")):
        os.utime(path, (WRITTEN, WRITTEN))
    with made.landmarks.open(newline="", encoding="utf-8") as stream:
        marks = list(csv.DictReader(stream))
    write_table(folder / "example.csv", ("case", "structure", *POINT), [row for row in marks if row["case"] == few[0]])
    points = [{**row, "class": row["structure"]} for row in marks if row["structure"] in STRUCTURES]
    write_table(folder / "points.csv", ("case", *POINT, "class"), points)
    write_table(folder / "few_points.csv", ("case", *POINT), [row for row in points if row["case"] in few])
    labelled = [case for split, cases in made.cases.items() if split != "pretrain" for case in cases]
    classes = [{"case": case, "class": ("sick", "well")[number % 2]} for number, case in enumerate(labelled)]
    write_table(folder / "whole.csv", ("case", "class"), classes)


if __name__ == "__main__":
    source = Path(alice3d.__file__).parents[1]
    if source != Path(os.environ["PYTHONPATH"]):
        raise SystemExit(f"the package comes from {source}, not from {os.environ['PYTHONPATH']}")
    write_inputs(Path())
