"""Monitors measure what they say and change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from in_processes import pretrain

from alice3d.data.sampling.matched_pair import MatchedPair
from alice3d.engine.log import read_log
from alice3d.errors import UserError
from alice3d.methods.feature_statistics import effective_rank, relative_deviation, view_agreement
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.ema import target_of
from alice3d.pretraining.monitors import average_distance


def test_effective_rank_counts_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    for rank in (1, 3, 7):
        axes, _ = torch.linalg.qr(torch.randn(16, rank, generator=generator))
        spread = torch.randn(4000, rank, generator=generator) @ axes.T + 5.0
        assert effective_rank(spread) == pytest.approx(rank, rel=0.02)
    assert effective_rank(torch.ones(10, 4)) == 1.0


def test_relative_deviation_is_zero_for_equal_and_one_for_centred_rows() -> None:
    assert relative_deviation(torch.ones(10, 4)) == 0.0
    rows = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    assert relative_deviation(rows - rows.mean(dim=0)) == pytest.approx(1.0, abs=1e-5)
    assert relative_deviation(rows) == pytest.approx(relative_deviation(10 * rows))


def test_agreement_is_one_for_the_same_tokens_and_near_zero_for_others() -> None:
    backbone = build_backbone("resunet", 1, {"widths": [4, 6, 8, 12], "blocks": [1, 1, 1]})
    generator = torch.Generator().manual_seed(0)
    tokens, others = torch.randn(2, 2, 27, 12, generator=generator)
    points = torch.rand(2, 200, 3, generator=generator) * 16 + 4
    batch = {"points_q": points, "points_k": points, "valid": torch.ones(2, 200)}
    places = MatchedPair.correspondence(batch)
    shape = (24, 24, 24)
    assert view_agreement(backbone, {"q": tokens, "k": tokens}, shape, places) == pytest.approx(1.0, abs=1e-4)
    assert abs(view_agreement(backbone, {"q": tokens, "k": others}, shape, places)) < 0.25
    nowhere = MatchedPair.correspondence({**batch, "valid": torch.zeros(2, 200)})
    assert np.isnan(view_agreement(backbone, {"q": tokens, "k": others}, shape, nowhere))


def test_average_distance_is_a_share_of_the_norm() -> None:
    online = torch.nn.Linear(3, 3)
    target = target_of(online)
    assert average_distance([(target, online)])["average_distance"] == 0.0
    with torch.no_grad():
        for weight in target.parameters():
            weight.mul_(0.9)
    assert average_distance([(target, online)])["average_distance"] == pytest.approx(0.1, abs=1e-6)
    assert average_distance([]) == {}


def test_monitors_change_no_bit_and_are_logged(tiny_store: Path, tmp_path: Path) -> None:
    """With a probe too; a healthy run ends."""
    probing = {"probe_every": 8, "probe_split": "train", "probe_cases": 2}
    for name, changes in (("without", {"monitor_every": 0}), ("with", {"monitor_every": 3, **probing})):
        pretrain(tiny_store, tmp_path / name, {**changes, "steps": 12})
    first, second = ((tmp_path / name / "encoder.safetensors").read_bytes() for name in ("without", "with"))
    assert first == second
    log = read_log(tmp_path / "with" / "log.jsonl")
    looks = [entry["step"] + 1 for entry in log if "feature_rank" in entry]
    assert looks == [3, 6, 9, 12]
    assert {"feature_deviation", "view_agreement", "average_distance"} <= set(log[-1])
    assert [entry["step"] + 1 for entry in log if "probe_knn_accuracy" in entry] == [8, 12]
    assert "feature rank" in (tmp_path / "with" / "curves.html").read_text()


def test_a_probe_without_cases_is_refused(tiny_store: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--probe-every: 1 cases of split 'val'"):
        pretrain(tiny_store, tmp_path / "run", {"probe_every": 5})
    with pytest.raises(UserError, match="--probe-split: the store has no 'vale'"):
        pretrain(tiny_store, tmp_path / "run", {"probe_every": 5, "probe_split": "vale"})
    assert not (tmp_path / "run").exists()
