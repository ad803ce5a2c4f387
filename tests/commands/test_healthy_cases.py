"""Healthy cases, whose label maps are empty: drawn, trained on, scored, and refused where nothing else is there."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from calling import call, result
from scan_files import head_like, write_nifti

LIGHT = (
    "--head",
    "linear",
    "--linear-voxels",
    "40",
    "--linear-views",
    "1",
    "--linear-iterations",
    "8",
    "--threads",
    "1",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases, of which every other is healthy; the test split has one of each kind."""
    folder = tmp_path_factory.mktemp("healthy")
    for number, name in enumerate("abcdef"):
        image = head_like(seed=number)
        label = (image > 500).astype(np.uint8) if number % 2 else np.zeros(image.shape, np.uint8)
        write_nifti(folder / "images" / f"{name}.nii.gz", image)
        write_nifti(folder / "labels" / f"{name}.nii.gz", label)
    splits = {"train": ["b", "c", "d"], "test": ["e", "f"], "well": ["a"]}
    (folder / "splits.json").write_text(json.dumps(splits))
    from alice3d.commands.prepare import PrepareConfig, run

    given = {"scans": folder / "images", "labels": folder / "labels", "splits": folder / "splits.json"}
    run(PrepareConfig(**given, store=folder / "store", spacing="4", label_names="1=spot", modality="ct"))
    return folder / "store"


def test_they_are_trained_on_and_scored(capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path) -> None:
    words = ("finetune", store, tmp_path / "m", "--encoder", "headneck-ct-alice", *LIGHT)
    made = result(capsys, *words)
    assert made["out"]
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    assert [case["id"] for case in card["cases"]] == ["b", "c", "d"]
    code, out, err = call(capsys, "evaluate", tmp_path / "m", store, "--threads", "1")
    assert code == 0, err
    assert "2 cases (1 healthy)" in out
    assert "false positives" in out
    scores = json.loads((tmp_path / "m" / "evaluation-test" / "metrics.json").read_text())
    assert (scores["cases"], scores["healthy"], scores["absent"]) == (2, 1, 1)
    rows = list(csv.DictReader((tmp_path / "m" / "evaluation-test" / "metrics.csv").open()))
    of = {row["case"]: row for row in rows}
    assert set(of) == {"e", "f"}
    assert (of["e"]["dice"], of["e"]["reference_voxels"]) == ("", "0")
    assert (of["e"]["false_positive"] == "True") == (int(of["e"]["predicted_voxels"]) > 0)
    assert float(of["e"]["false_positive_ml"]) == pytest.approx(int(of["e"]["predicted_voxels"]) * 0.064, rel=1e-4)
    assert scores["false_positive"] == (of["e"]["false_positive"] == "True")
    assert scores["dice"]["mean"] == pytest.approx(float(of["f"]["dice"]), rel=1e-5)


def test_healthy_cases_alone_are_refused(capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path) -> None:
    for head in ("linear", "unet"):
        words = ("finetune", store, tmp_path / "m", "--split", "well", "--head", head, "--threads", "1")
        code, _, err = call(capsys, *words)
        assert code == 2
        assert "all 1 training cases are healthy (their label maps are empty)" in err
    code, _, err = call(capsys, "probe", "headneck-ct-alice", store, "--split", "well", "--labels", 1, "--threads", "1")
    assert code == 2
    assert "all 1 cases of split 'well' are healthy" in err
