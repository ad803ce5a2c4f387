"""Scores in a model's folder leave with the model that they are of."""

from __future__ import annotations

import json
from pathlib import Path

from alice3d import files, outputs
from alice3d.tasks.stale_scores import remove_stale_scores


def scored(folder: Path, weights: str, kind: str = "evaluation") -> Path:
    settings = {"split": folder.name, "inputs": {"model": weights, "store": "s"}}
    outputs.begin(folder, kind, settings, state="new")
    (folder / "metrics.json").write_text(json.dumps({"dice": 0.9}))
    outputs.finish(folder, {})
    return folder


def test_scores_of_other_weights_leave_and_nothing_else(tmp_path: Path, capsys) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"new")
    (tmp_path / "model.json").write_text("{}")
    now = files.file_sha256(tmp_path / "model.safetensors")
    old, kept = scored(tmp_path / "evaluation-test", "of before"), scored(tmp_path / "evaluation-val", now)
    noted, maps = scored(tmp_path / "mine", "of before"), scored(tmp_path / "maps", "of before", "prediction")
    (noted / "notes.txt").write_text("my own")
    (tmp_path / "figures").mkdir()
    assert remove_stale_scores(tmp_path) == ["evaluation-test", "mine"]
    assert not old.exists()
    assert (kept / "metrics.json").exists()
    assert (maps / "metrics.json").exists()
    assert [path.name for path in noted.iterdir()] == ["notes.txt"]
    assert (tmp_path / "figures").is_dir()
    assert "Removed evaluation-test, mine: scores of the model that was here before" in capsys.readouterr().out
    assert remove_stale_scores(tmp_path) == []
