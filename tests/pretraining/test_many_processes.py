"""Two processes give what one gives with the same batch; they resume, accumulate, shard, and stop together."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from in_processes import begin_together, finish, pretrain, together, wait_for_step

from alice3d.engine import parallel
from alice3d.engine.checkpoint import load_checkpoint
from alice3d.engine.log import read_log
from alice3d.errors import UserError

LOSSES = ("loss", "class", "patch", "reconstruction", "dense", "patch_marginal_entropy", "gradient_norm")
SETTINGS = {"batch": 4, "steps": 12}


def losses(out: Path, names: tuple[str, ...] = LOSSES) -> torch.Tensor:
    return torch.tensor([[entry[name] for name in names] for entry in read_log(out / "log.jsonl")])


@pytest.fixture(scope="module")
def alone(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert together(1, pretrain, tiny_store, out, SETTINGS, folder=out.parent) == [""]
    return losses(out)


@pytest.mark.slow
def test_two_processes_learn_as_one_does(tiny_store: Path, tmp_path: Path, alone: torch.Tensor) -> None:
    assert together(2, pretrain, tiny_store, tmp_path / "two", SETTINGS, folder=tmp_path) == ["", ""]
    torch.testing.assert_close(losses(tmp_path / "two"), alone, rtol=1e-3, atol=1e-4)
    assert (tmp_path / "two" / "encoder.safetensors").is_file()


@pytest.mark.slow
def test_two_processes_killed_and_resumed_end_with_the_same_bits(tiny_store: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "workers": 2}
    assert together(2, pretrain, tiny_store, tmp_path / "whole", settings, folder=tmp_path) == ["", ""]
    processes = begin_together(2, pretrain, tiny_store, tmp_path / "cut", settings, folder=tmp_path)
    wait_for_step(tmp_path / "cut", 7, processes[0])
    for process in processes:
        process.kill()
        process.join()
    assert not (tmp_path / "cut" / "encoder.safetensors").exists()
    assert together(2, pretrain, tiny_store, tmp_path / "cut", settings, folder=tmp_path) == ["", ""]
    first, second = ((tmp_path / name / "encoder.safetensors").read_bytes() for name in ("whole", "cut"))
    assert first == second


@pytest.mark.slow
def test_sharded_weights_learn_alike_and_one_process_goes_on(
    tiny_store: Path, tmp_path: Path, alone: torch.Tensor
) -> None:
    out = tmp_path / "run"
    settings = {**SETTINGS, "shard_weights": True}
    processes = begin_together(2, pretrain, tiny_store, out, settings, folder=tmp_path)
    wait_for_step(out, 8, processes[0])
    assert processes[1].pid is not None
    os.kill(processes[1].pid, signal.SIGTERM)  # one is told, both stop at the same step
    said = finish(processes, tmp_path)
    kept = load_checkpoint(out / "checkpoints")
    assert kept is not None
    assert all(f"told to stop at step {kept['step']};" in each for each in said), said
    assert together(1, pretrain, tiny_store, out, SETTINGS, folder=tmp_path) == [""]
    torch.testing.assert_close(losses(out), alone, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_batch_in_parts_gives_the_same_step(tiny_store: Path, tmp_path: Path) -> None:
    names = ("loss", "gradient_norm")
    settings = {**SETTINGS, "method": "mae", "options": {"decoder_width": 12, "decoder_heads": 2}}
    for name, changes in (("once", {}), ("parts", {"accumulate": 4})):
        pretrain(tiny_store, tmp_path / name, {**settings, **changes})
    assert together(2, pretrain, tiny_store, tmp_path / "both", {**settings, "accumulate": 2}, folder=tmp_path) == [
        "",
        "",
    ]
    once = losses(tmp_path / "once", names)
    for name in ("parts", "both"):
        torch.testing.assert_close(losses(tmp_path / name, names), once, rtol=1e-4, atol=1e-5)


def test_shares_cover_the_batch_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = list(range(12))
    monkeypatch.setattr(parallel, "world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        shares.append(parallel.my_share(numbers, 3))
    assert shares == [[[0, 1], [4, 5], [8, 9]], [[2, 3], [6, 7], [10, 11]]]
    with pytest.raises(UserError, match=r"--batch: 10 samples cannot be shared equally by 2 processes in 3 parts"):
        parallel.my_share(numbers[:10], 3)


def test_a_second_training_in_one_call_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(parallel, "_parted", True)
    with pytest.raises(UserError, match="trains once"):
        parallel.start(torch.device("cpu"))
