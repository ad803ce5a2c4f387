"""`alice methods`, and `alice compare --methods all`: every objective of the package, by its name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from calling import call

from alice3d.methods.base import fitting_methods, method_names

SIZES = {"steps": 2, "batch": 4, "crop": 16, "points": 16, "candidates": 32, "monitor_every": 0}
LINEAR = {"linear_voxels": 30, "linear_views": 1, "linear_iterations": 3, "linear_rounds": 1}


def test_methods_are_listed_with_paper_sampler_backbones_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "methods", "--json")
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(out)["methods"]}
    assert set(rows) == set(method_names())
    assert all({"paper", "sampler", "backbones", "cost"} <= set(row) for row in rows.values())
    assert all(row["paper"] for row in rows.values())
    assert rows["spark"]["backbones"] == ["resunet"]
    assert set(rows["dino"]["backbones"]) >= {"resunet", "swin", "vit"}
    assert rows["voco"]["sampler"] == "BaseCrops"
    code, out, _ = call(capsys, "methods")
    assert all(any(line.startswith(name) for line in out.splitlines()) for name in rows)


def test_all_objectives_are_compared_and_those_a_backbone_cannot_learn_by_are_named(
    capsys: pytest.CaptureFixture[str], tiny_store: Path, tmp_path: Path
) -> None:
    settings = {
        "methods": ["all"],
        "seeds": [0],
        "labels": [2],
        "split": "test",
        "measures": ["linear"],
        "pretrain": {**SIZES, "backbone_options": {"widths": [4, 6, 8, 8], "blocks": [1, 1, 1]}, "workers": 0},
        "linear": LINEAR,
    }
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(settings))
    words = ["compare", tiny_store, tmp_path / "out", "--config", tmp_path / "all.yaml"]
    code, _, err = call(capsys, *words, "--threads", "1")
    assert code == 0, err
    fitting, _ = fitting_methods("resunet", {})
    rows = list(csv.DictReader((tmp_path / "out" / "compare.csv").open()))
    assert {row["method"] for row in rows} == set(fitting)
    fitting, refused = fitting_methods("vit", {})
    assert "spark" in refused
    assert "spark" not in fitting
