"""`alice pretrain`, killed twenty times at random moments, ends with the same bits as an uninterrupted run."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest
from in_processes import begin, pretrain, pretrain_on_a_full_disk, wait_for_step

from alice3d.engine.checkpoint import checkpoints
from alice3d.engine.log import read_log

KILLS = 10
SETTINGS = {"steps": 160, "checkpoint_every": 2, "monitor_every": 7}
TIMES = {"data_wait_s", "step_s", "samples_per_s", "monitor_s"}


def learned(out: Path) -> list[dict[str, float]]:
    """Log lines without what the clock gave."""
    return [{key: entry[key] for key in entry.keys() - TIMES} for entry in read_log(out / "log.jsonl")]


@pytest.fixture(scope="module")
def whole(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run without workers."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = begin(pretrain, tiny_store, out, {**SETTINGS, "workers": 0}, errors=out.parent / "errors.txt")
    process.join()
    assert process.exitcode == 0, (out.parent / "errors.txt").read_text()
    return out


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_random_moments_equals_uninterrupted(
    tiny_store: Path, tmp_path: Path, whole: Path, workers: int
) -> None:
    rng = random.Random(workers)
    out, settings = tmp_path / "cut", {**SETTINGS, "workers": workers}
    for kills in range(KILLS):
        process = begin(pretrain, tiny_store, out, settings, errors=tmp_path / "errors.txt")
        done = len(read_log(out / "log.jsonl"))
        # Every other kill may come while inputs are read and the checkpoint is loaded, the rest between two steps.
        wait_for_step(out, done + rng.randint(0, 3) if kills % 2 else 0, process)
        time.sleep(rng.uniform(0, 0.1 if kills % 2 else 0.5))
        assert process.is_alive(), "the run ended before it was killed: give it more steps"
        process.kill()
        process.join()
    process = begin(pretrain, tiny_store, out, settings, errors=tmp_path / "errors.txt")
    process.join()
    assert process.exitcode == 0, (tmp_path / "errors.txt").read_text()
    assert (out / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()
    assert learned(out) == learned(whole)
    assert not list(out.rglob(".unfinished-*"))


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_checkpoint(tiny_store: Path, tmp_path: Path, whole: Path) -> None:
    out, errors = tmp_path / "cut", tmp_path / "errors.txt"
    process = begin(pretrain, tiny_store, out, SETTINGS, errors=errors)
    wait_for_step(out, 10, process)
    process.kill()
    process.join()
    kept = checkpoints(out / "checkpoints")
    assert kept
    process = begin(pretrain_on_a_full_disk, tiny_store, out, SETTINGS, 100_000, errors=errors)
    process.join()
    said = errors.read_text()
    assert re.match(r"step-\d+.pt: the checkpoint of step \d+ cannot be written \(.*\); earlier ones are kept", said), (
        said
    )
    assert checkpoints(out / "checkpoints") == kept
    assert not list(out.rglob(".unfinished-*"))
    process = begin(pretrain, tiny_store, out, SETTINGS, errors=errors)
    process.join()
    assert process.exitcode == 0, errors.read_text()
    assert (out / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()
