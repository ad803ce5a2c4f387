"""Two processes give what one gives with the same batch; they resume, accumulate, shard, and stop together."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from in_processes import begin_together, finish, pretrain, together, wait_for_step

from alice3d.engine.checkpoint import load_checkpoint
from alice3d.engine.log import read_log

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
    os.kill(processes[1].pid, signal.SIGTERM)  # one gets the signal, both stop at the same step
    said = finish(processes, tmp_path)
    kept = load_checkpoint(out / "checkpoints")
    assert kept is not None
    assert all(f"received SIGTERM at step {kept['step']};" in each for each in said), said
    assert together(1, pretrain, tiny_store, out, SETTINGS, folder=tmp_path) == [""]
    torch.testing.assert_close(losses(out), alone, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shard_weights", [False, True])
def test_few_pairs_over_two_processes_use_the_queue_of_one(
    tiny_store: Path, tmp_path: Path, shard_weights: bool
) -> None:
    """One pair in each process; and one process goes on from the two, queue included."""
    few = {"batch": 2, "steps": 9, "checkpoint_every": 1}
    assert together(1, pretrain, tiny_store, tmp_path / "alone", few, folder=tmp_path) == [""]
    processes = begin_together(
        2, pretrain, tiny_store, tmp_path / "two", {**few, "shard_weights": shard_weights}, folder=tmp_path
    )
    wait_for_step(tmp_path / "two", 6, processes[0])
    for process in processes:
        process.kill()
        process.join()
    kept = load_checkpoint(tmp_path / "two" / "checkpoints")
    assert kept is not None
    assert kept["step"] < 9
    assert len(kept["method"]["class_queue.tokens"]) == 8
    assert together(1, pretrain, tiny_store, tmp_path / "two", few, folder=tmp_path) == [""]
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "alone"), rtol=1e-3, atol=1e-4)


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
