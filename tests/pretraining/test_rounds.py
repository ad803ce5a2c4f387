"""Training in rounds: each goes on from the pairs that the one before matched, and all of it is restartable."""

from __future__ import annotations

from pathlib import Path

import pytest

from alice3d import cli
from alice3d.commands.train_matcher import run
from alice3d.errors import UserError
from alice3d.pretraining.settings import TrainMatcherConfig
from alice3d.weights.files import load_matcher, read_card


def config(store: Path, out: Path, **changes: object) -> TrainMatcherConfig:
    small = {"backbone_options": {"widths": [4, 6, 8, 12], "blocks": [1, 1, 1]}, "crop": 16, "batch": 2}
    few = {"steps": 120, "rounds": 2, "scan_pairs": 3, "points": 32, "candidates": 64, "threads": 1}
    return TrainMatcherConfig.checked({"store": store, "out": out, **small, **few, **changes}, "test")


@pytest.mark.slow
def test_the_second_round_learns_from_the_pairs_of_the_first(tiny_store: Path, tmp_path: Path) -> None:
    result = run(config(tiny_store, tmp_path / "m"))
    assert result["steps"] == 240
    first, last = (read_card(tmp_path / "m" / name / "matcher.safetensors", "matcher") for name in ("round-1", "."))
    assert (first["partner"], last["partner"]) == ("same", "matched")
    assert last["init"] is not None
    assert last["pairs"] is not None
    load_matcher(tmp_path / "m")
    assert all("coarse" in (tmp_path / f"m/round-{number}/curves.html").read_text() for number in (1, 2))
    assert run(config(tiny_store, tmp_path / "m")) == result  # done, and not trained again
    with pytest.raises(UserError, match="rounds 2, this call has 3"):
        run(config(tiny_store, tmp_path / "m", rounds=3))


def test_rounds_take_no_table(tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train-matcher", str(tiny_store), str(tmp_path / "m"), "--rounds", "2", "--pairs", str(tmp_path / "pairs")]
    assert cli.main(words) == 2
    assert "--rounds makes its own pairs tables" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("changes", "said"), [({"accumulate": 4}, "in 4 parts"), ({"crop": 20}, "no multiple"), ({"init": "no"}, "shipped")]
)
def test_a_wrong_call_is_refused_before_the_folder_is_claimed(
    tiny_store: Path, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        run(config(tiny_store, tmp_path / "m", **changes))
    assert not (tmp_path / "m").exists()
