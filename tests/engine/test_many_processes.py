"""Two processes give what one gives with the same batch; they resume, accumulate, shard, and stop together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from in_processes import pretrain, together

from alice3d.engine.checkpoint import load_checkpoint
from alice3d.engine.log import read_log

LOSSES = ("loss", "class", "patch", "reconstruction", "dense", "gradient_norm")


def losses(out: Path) -> torch.Tensor:
    return torch.tensor([[entry[name] for name in LOSSES] for entry in read_log(out / "log.jsonl")])


@pytest.fixture(scope="module")
def alone(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert together(1, pretrain, tiny_store, out, {"batch": 4, "steps": 12}, folder=out.parent) == [""]
    return losses(out)


def two(store: Path, out: Path, **changes: Any) -> None:
    settings = {"batch": 4, "steps": 12, **changes}
    assert together(2, pretrain, store, out, settings, folder=out.parent) == ["", ""]


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_learn_as_one_does(tiny_store: Path, tmp_path: Path, alone: torch.Tensor, sharded: bool) -> None:
    two(tiny_store, tmp_path / "two", shard_weights=sharded)
    torch.testing.assert_close(losses(tmp_path / "two"), alone, rtol=2e-3, atol=2e-3)
