"""Prove that a change of the code changes none of its numbers: the same calls with the code before and after.

    python benchmarks/identity/compare.py BEFORE AFTER [--out DIR]

BEFORE and AFTER are commits of this repository, or folders of checkouts. Every call of `steps.py` is made with either
side's code, and all files that they leave are compared bit for bit. Prints a row a file, and `identical` (exit code 0)
or `DIFFERENT` (1); 2 where a call failed. With `--out` the results stay, and calls made before with the same code are
not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artefacts import Row, compare_folders, identical, verdict
from steps import STEPS, Step

HERE = Path(__file__).resolve().parent
INPUTS = HERE / "inputs.py"
COMPUTING = ("torch", "numpy", "scipy", "blosc2", "nibabel", "safetensors")
"""Packages of which another version makes other numbers."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class CallFailed(Exception):
    """A call did not end well; says which, and its last line."""


@contextlib.contextmanager
def checkout(given: str) -> Iterator[Path]:
    """The folder of a checkout: as given, or a worktree of a commit that is removed afterwards."""
    folder = Path(given)
    if (folder / "src" / "alice3d").is_dir():
        yield folder.resolve()
        return
    git = ["git", "-C", str(HERE)]
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        added = subprocess.run(
            [*git, "worktree", "add", "--detach", str(tree), given], capture_output=True, text=True, check=False
        )
        if added.returncode:
            raise CallFailed(f"{given}: neither a checkout nor a commit ({added.stderr.strip().splitlines()[-1]})")
        try:
            yield tree.resolve()
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(tree)], capture_output=True, check=False)


def source_key(source: Path) -> str:
    """Checksum of the code and of the versions that it computes with."""
    digest = hashlib.sha256(sys.version.encode())
    for name in COMPUTING:
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    for path in sorted((source / "alice3d").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(source).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def step_keys(source: Path) -> list[str]:
    """A key for each step: of the code, of its words, and of all steps before it."""
    keys, key = [], source_key(source)
    for step in STEPS:
        what = json.dumps([step.name, step.words]) if step.words else INPUTS.read_text(encoding="utf-8")
        key = hashlib.sha256(f"{key}\n{what}".encode()).hexdigest()
        keys.append(key)
    return keys


class Side:
    """The results of one side: `files/` holds what is compared, `said/` what the calls printed, `done.json` the steps.

    Args:
        name: before or after.
        source: the `src` folder of its checkout.
        folder: made where missing.
    """

    def __init__(self, name: str, source: Path, folder: Path) -> None:
        self.name, self.source = name, source
        self.files, self.said, self.record = folder / "files", folder / "said", folder / "done.json"
        for made in (self.files / "results", self.said):
            made.mkdir(parents=True, exist_ok=True)

    def run(self) -> None:
        """Make the calls that are not done, in order.

        Raises:
            CallFailed: one did not end well; those before it are kept.
        """
        keys = step_keys(self.source)
        earlier: list[dict[str, Any]] = json.loads(self.record.read_text()) if self.record.is_file() else []
        same = [entry["key"] == key for entry, key in zip(earlier, keys, strict=False)]
        kept = same.index(False) if False in same else len(same)
        for entry in earlier[kept:]:
            self._remove(entry["makes"])
        done = earlier[:kept]
        for step, key in list(zip(STEPS, keys, strict=True))[kept:]:
            self._write(done)  # before anything of a step that has to be made again is removed
            makes = [*step.makes, f"results/{step.name}.json"]
            self._remove(makes)
            begun = time.monotonic()
            self._call(step)
            took = round(time.monotonic() - begun, 1)
            print(f"{self.name}: {step.name} {took} s", file=sys.stderr)
            done.append({"name": step.name, "key": key, "makes": makes, "seconds": took})
        self._write(done)
        print(f"{self.name}: {len(done)} calls, {sum(entry['seconds'] for entry in done):.0f} s", file=sys.stderr)

    def _write(self, done: list[dict[str, Any]]) -> None:
        half = self.record.with_suffix(".half")
        half.write_text(json.dumps(done, indent=1))
        half.replace(self.record)

    def _remove(self, makes: list[str]) -> None:
        for path in (self.files / name for name in makes):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _call(self, step: Step) -> None:
        words = ["-m", "alice3d.cli", *step.words, "--json"] if step.words else [str(INPUTS)]
        # The working folder stays off the path, and nothing is written into the checkout.
        clean = {"PYTHONPATH": str(self.source), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        made = subprocess.run(
            [sys.executable, *words],
            cwd=self.files,
            env={**os.environ, **ONE_THREAD, **clean},
            capture_output=True,
            text=True,
            check=False,
        )
        (self.said / f"{step.name}.txt").write_text(made.stderr, encoding="utf-8")
        if made.returncode:
            last = (made.stderr.strip().splitlines() or ["nothing said"])[-1]
            raise CallFailed(f"{self.name}: {step.name} ended with {made.returncode}: {last}")
        if step.words:
            (self.files / "results" / f"{step.name}.json").write_text(made.stdout, encoding="utf-8")


def show(rows: list[Row]) -> None:
    """A row a file, then the verdict."""
    for row in rows:
        numbers = "" if row.state in ("there", "missing") else str(row.numbers)
        print(f"{row.state:8}{numbers:>10}  {row.name}" + (f"  {row.said}" if row.said else ""))
    print(verdict(rows))


def main() -> int:
    """Read the call; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="commit, or folder of a checkout")
    parser.add_argument("after", help="commit, or folder of a checkout")
    parser.add_argument("--out", type=Path, help="folder that keeps the results; left out, they are thrown away")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        out = given.out.resolve() if given.out else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = []
        try:
            for name in ("before", "after"):
                tree = stack.enter_context(checkout(getattr(given, name)))
                sides.append(Side(name, tree / "src", out / name))
                sides[-1].run()
        except CallFailed as failed:
            print(failed, file=sys.stderr)
            return 2
        rows = compare_folders(sides[0].files, sides[1].files)
    show(rows)
    return 0 if identical(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
