"""`alice probe`: its keys, its equality with the commands that write files, and its refusals."""

from __future__ import annotations

import json

import pytest
from calling import call, result

LIGHT = ("--linear-voxels", "40", "--linear-views", "1", "--linear-iterations", "8")


def test_linear_dice_equals_finetune_and_evaluate(capsys, tiny_store, tiny_scans, tiny_matcher, tmp_path):
    probed = result(
        capsys, "probe", tiny_matcher, tiny_store, "--labels", 2, "--landmarks", tiny_scans.landmarks,
        "--split", "test", "--out", tmp_path / "probe.json", *LIGHT,
    )  # fmt: skip
    assert json.loads((tmp_path / "probe.json").read_text()) == {"made_by": "alice3d", **probed}
    result(
        capsys, "finetune", tiny_store, tmp_path / "model", "--encoder", tiny_matcher, "--head", "linear",
        "--labels", 2, *LIGHT,
    )  # fmt: skip
    scored = result(capsys, "evaluate", tmp_path / "model", tiny_store, "--split", "test")
    assert probed["linear_dice"] == pytest.approx(scored["dice"]["mean"], abs=1e-9)
    assert 0 < probed["knn_accuracy"] < 1
    assert probed["landmark"]["pairs"] == 2
    assert probed["landmark_mean_mm"] == probed["landmark"]["mean_mm"]["mean"] > 0
    assert {"box", "untrained"} == set(probed["baselines"])
    assert probed["baselines"]["untrained"]["linear_dice"] is not None


def test_only_what_is_asked_is_measured(capsys, tiny_store, tiny_matcher):
    probed = result(
        capsys,
        "probe",
        tiny_matcher,
        tiny_store,
        "--labels",
        2,
        "--split",
        "val",
        "--measures",
        "knn",
        "--no-baselines",
    )
    assert probed["knn_accuracy"] is not None
    assert [probed[key] for key in ("linear_dice", "landmark_mean_mm", "landmark_median_mm")] == [None] * 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--measures", "landmarks"), "did you mean 'landmark'?"),
        (("--measures", "landmark"), "needs --landmarks"),
        (("--split", "tests"), "no split 'tests'"),
        (("--split", "pretrain"), "has no labels"),
        (("--split", "train"), "choose another"),
        (("--labels", "7"), "7 labelled cases are requested"),
    ],
)
def test_refusals_are_one_line(capsys, tiny_store, tiny_matcher, words, said):
    code, out, err = call(
        capsys, "probe", tiny_matcher, tiny_store, *(() if "--labels" in words else ("--labels", "2")), *words
    )
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
