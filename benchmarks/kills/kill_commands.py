"""Kill every command at random moments, call it again, and compare what it leaves with an uninterrupted call.

    python benchmarks/kills/kill_commands.py OUT [--times 20] [--only NAME,NAME] [--seed 0]

The calls are those of `benchmarks/identity/steps.py`, one a command, at tiny scale. Each is made once without
interruption. Then, in a fresh copy of its inputs, it is started and ended by `kill -9` at a moment drawn uniformly
from its usual run time, every other time with the processes that it started; and so again, until it was killed
`--kills` times in a row or has ended by itself. The last call must end with exit code 0, must leave files equal to
those of the uninterrupted call (`artefacts.py`: bit for bit, without what a clock said), no unfinished file and no
lock. Inputs must be what they were.

OUT/results.json has a row a command; what was done stays when the script itself is stopped. Exit code 1 where
anything differed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "identity"))
from artefacts import Row, compare_files, compare_folders
from compare import ONE_THREAD, Side
from machine import described, keep
from steps import STEPS, Step

SOURCE = Path(__file__).resolve().parents[2] / "src"
COMMANDS = (
    *("prepare", "inspect", "train-matcher-rounds", "evaluate-matcher", "calibrate-matcher", "pair", "match"),
    *("landmarks", "propagate", "pretrain-alice", "probe", "finetune-unet", "evaluate-unet", "predict"),
    *("finetune-points", "evaluate-points", "predict-points", "compare"),
)
"""Steps that are tried: every command that computes, fine-tuning and what follows for both tasks."""
CHANGED = {"calibrate-matcher": ("rounds",)}
"""What a step changes in place, beside what it makes."""
LEFTOVERS = ("**/.unfinished-*",)
"""Files that no finished call may leave."""
CLEAN = {**ONE_THREAD, "PYTHONPATH": str(SOURCE), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class Whole(Side):
    """The uninterrupted calls; what a step leaves is copied to `snapshots/STEP`, as later steps may add to it."""

    def _call(self, step: Step) -> None:
        super()._call(step)
        kept = self.files.parent / "snapshots" / step.name
        if kept.exists():
            shutil.rmtree(kept)
        for name in (*step.makes, *CHANGED.get(step.name, ())):
            copy(self.files / name, kept / name)


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)


@contextlib.contextmanager
def started(step: Step, folder: Path, said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The call, as a group of processes of its own; whatever is left of the group is ended afterwards."""
    with said.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "alice3d.cli", *step.words],
            cwd=folder,
            env={**os.environ, **CLEAN},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_until(step: Step, folder: Path, said: Path, seconds: float, whole_group: bool) -> int | None:
    """Make the call and kill it after those seconds: its exit code, None where it was killed."""
    with started(step, folder, said) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            if whole_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            return None


def contents(folder: Path, left_out: set[str]) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file that the step does not make."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(name == made or name.startswith(f"{made}/") for made in left_out):
            found[name] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


def compared(whole: Path, cut: Path, makes: set[str]) -> list[Row]:
    """Rows of what differs between the two sides' results."""
    rows: list[Row] = []
    for name in sorted(makes):
        if (whole / name).is_file() and (cut / name).is_file():
            rows.append(compare_files(name, whole / name, cut / name))
        elif (whole / name).is_dir() and (cut / name).is_dir():
            rows += compare_folders(whole / name, cut / name)
        else:
            rows.append(Row(name, "missing"))
    return [row for row in rows if not row.same]


def one_trial(step: Step, side: Side, scratch: Path, usual_s: float, kills: int, rng: random.Random) -> dict[str, Any]:
    """Kill the call up to `kills` times, then let it end: how often it was killed, and what is wrong; "" if nothing."""
    if scratch.exists():
        shutil.rmtree(scratch)
    folder = scratch / "files"
    shutil.copytree(side.files, folder)
    changes = {*step.makes, *CHANGED.get(step.name, ())}
    for name in step.makes:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    inputs = contents(folder, changes)
    killed, code, said = 0, None, scratch / "said.txt"
    for _ in range(kills):
        code = run_until(step, folder, said, rng.uniform(0, usual_s), whole_group=bool(rng.randrange(2)))
        if code is not None:
            break
        killed += 1
    if code is None:
        code = run_until(step, folder, said, 60 * usual_s + 300, whole_group=True)
    wrong = ""
    if code != 0:
        last = (said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing said"])[-1]
        wrong = f"exit code {code}: {last}"
    elif differing := compared(side.files.parent / "snapshots" / step.name, folder, changes):
        wrong = f"{len(differing)} files differ; first {differing[0].name}: {differing[0].said or differing[0].state}"
    elif left := [path.name for pattern in LEFTOVERS for path in folder.glob(pattern)]:
        wrong = f"left behind: {left[0]}"
    elif contents(folder, changes) != inputs:
        wrong = "an input was changed"
    return {"killed": killed, "wrong": wrong}


def main() -> int:
    """Read the call; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--times", type=int, default=20, help="kills of each command")
    parser.add_argument("--kills", type=int, default=3, help="kills in a row before the call is let end")
    parser.add_argument("--only", default=",".join(COMMANDS), help="steps, comma separated")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    out = given.out.resolve()
    side = Whole("whole", SOURCE, out / "whole")
    side.run()
    usual = {entry["name"]: entry["seconds"] for entry in json.loads(side.record.read_text())}
    steps = {step.name: step for step in STEPS}
    kept = out / "results.json"
    rows: dict[str, Any] = json.loads(kept.read_text())["commands"] if kept.exists() else {}
    for name in given.only.split(","):
        rng = random.Random(f"{given.seed} {name}")
        row = {"kills": 0, "trials": 0, "usual_s": usual[name], "wrong": []}
        while row["kills"] < given.times and name not in rows:
            begun = time.monotonic()
            trial = one_trial(steps[name], side, out / "scratch", usual[name], given.kills, rng)
            row["kills"] += trial["killed"]
            row["trials"] += 1
            row["wrong"] += [trial["wrong"]] * bool(trial["wrong"])
            took = time.monotonic() - begun
            print(f"{name}: {row['kills']} kills, {took:.0f} s  {trial['wrong']}", file=sys.stderr, flush=True)
        row = rows.setdefault(name, row)
        keep(kept, {"seed": given.seed, "commands": rows, **described()})
        print(f"{name:22}{row['kills']:4} kills in {row['trials']:3} trials  {row['wrong'] or 'nothing lost'}")
    return int(any(row["wrong"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
