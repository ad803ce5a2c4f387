"""Training without labels goes on with the cases that it began with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from in_processes import SMALL, pretrain
from safetensors.torch import load_file

from alice3d.data.store import Store, limited


def test_scans_that_come_into_the_store_do_not_stop_a_run(
    tiny_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    settings = {**SMALL, "steps": 2}
    cases = Store.open(tiny_store).cases()
    late = next(case.id for case in cases if case.split == "pretrain")
    with limited(tiny_store, [case.id for case in cases if case.id != late]):
        pretrain(tiny_store, out, settings)
    first = load_file(out / "encoder.safetensors")
    (out / "encoder.safetensors").unlink()
    pretrain(tiny_store, out, settings)
    assert f"left out of it: {late}" in capsys.readouterr().out
    again = load_file(out / "encoder.safetensors")
    assert all((first[key] == again[key]).all() for key in first)
    assert late not in [case["id"] for case in json.loads((out / "encoder.json").read_text())["cases"]]
