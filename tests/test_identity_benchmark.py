"""`benchmarks/identity`: equal folders, one number off, a missing file, what is left out, and which calls are kept."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import blosc2
import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "identity"))
import compare
from artefacts import Row, compare_folders, difference, verdict
from compare import CallFailed, Side
from steps import STEPS

LOG = [{"step": 0, "loss": 1.5, "step_s": 0.1}, {"step": 1, "loss": float("nan"), "step_s": 0.2}]
WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16)}


def write_run(folder: Path) -> Path:
    """A file of each kind."""
    (folder / "run").mkdir(parents=True)
    save_file(WEIGHTS, folder / "run" / "encoder.safetensors")
    card = {"kind": "encoder", "version": "1", "source_commit": "a" * 40, "cases": [{"id": "x"}], "init": None}
    (folder / "run" / "encoder.json").write_text(json.dumps(card))
    (folder / "run" / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in LOG))
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump({"steps": 2, "hidden_share": 0.75}))
    (folder / "scores.csv").write_text("case,dice\nx,0.25\n")
    (folder / "scores.md").write_text("Some words.\n\n| x | 0.25 |\n")
    np.savez(folder / "pairs.npz", query_mm=np.zeros((2, 3), np.float32))
    torch.save({"seconds": 1.0, "optimiser": {"state": {0: {"step": torch.tensor(2.0)}}}}, folder / "step-2.pt")
    nib.save(nib.Nifti1Image(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.eye(4)), folder / "labels.nii.gz")
    blosc2.asarray(np.arange(8, dtype=np.int16), urlpath=str(folder / "scan.b2nd"))
    (folder / "curves.html").write_text("drawn today")
    return folder


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal folders."""
    return write_run(tmp_path / "before"), Path(shutil.copytree(tmp_path / "before", tmp_path / "after"))


def differing(sides: tuple[Path, Path]) -> list[Row]:
    """Rows of files that are not the same."""
    rows = compare_folders(*sides)
    found = [row for row in rows if not row.same]
    assert verdict(rows).startswith("DIFFERENT" if found else "identical")
    return found


def test_equal_folders_are_identical(sides):
    rows = compare_folders(*sides)
    assert {row.name: row.state for row in rows if row.state != "equal"} == {"curves.html": "there"}
    by_name = {row.name: row.numbers for row in rows}
    assert (by_name["run/encoder.safetensors"], by_name["pairs.npz"], by_name["scores.csv"]) == (8, 6, 1)
    assert by_name["run/log.jsonl"] == 4
    assert verdict(rows) == f"identical: {sum(by_name.values())} numbers in 11 files"


def test_clocks_versions_and_pages_may_differ(sides):
    run = sides[1] / "run"
    card = json.loads((run / "encoder.json").read_text())
    (run / "encoder.json").write_text(json.dumps({**card, "version": "2", "source_commit": None}))
    (run / "log.jsonl").write_text("".join(json.dumps({**entry, "step_s": 9.0}) + "\n" for entry in LOG))
    torch.save({"seconds": 9.0, "optimiser": {"state": {0: {"step": torch.tensor(2.0)}}}}, sides[1] / "step-2.pt")
    (sides[1] / "curves.html").write_text("drawn tomorrow")
    (sides[1] / "scores.md").write_text("Other words.\n\n| patient x | 0.25 |\n")
    assert differing(sides) == []


def test_a_renamed_key_is_the_same_key_with_the_same_value(sides):
    config = sides[1] / "run" / "config.yaml"
    config.write_text(yaml.safe_dump({"steps": 2, "mask_ratio": 0.75}))
    assert differing(sides) == []
    config.write_text(yaml.safe_dump({"steps": 2, "mask_ratio": 0.5}))
    assert "mask_ratio: 0.75 != 0.5" in differing(sides)[0].said
    config.write_text(yaml.safe_dump({"steps": 2, "mask_ratio": 0.75, "hidden_share": 0.75}))
    assert "mask_ratio is there twice" in differing(sides)[0].said


def change_weights(folder: Path) -> None:
    changed = WEIGHTS["a"].clone()
    changed[1, 2] = torch.nextafter(changed[1, 2], torch.tensor(9.0))
    save_file({**WEIGHTS, "a": changed}, folder / "run" / "encoder.safetensors")


def change_type(folder: Path) -> None:
    save_file({**WEIGHTS, "b": torch.ones(2, dtype=torch.float16)}, folder / "run" / "encoder.safetensors")


def change_voxel(folder: Path) -> None:
    voxels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    voxels[0, 1, 0] = 9
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / "labels.nii.gz")


def change_affine(folder: Path) -> None:
    affine = np.diag([1.0, 1.0, 1.5, 1.0])
    nib.save(nib.Nifti1Image(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), affine), folder / "labels.nii.gz")


def change_scan(folder: Path) -> None:
    changed = np.array([0, 1, 2, 3, 4, 5, 6, 8], np.int16)
    blosc2.asarray(changed, urlpath=str(folder / "scan.b2nd"), mode="w")


def change_checkpoint(folder: Path) -> None:
    torch.save({"seconds": 1.0, "optimiser": {"state": {0: {"step": torch.tensor(3.0)}}}}, folder / "step-2.pt")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("run/encoder.safetensors", change_weights, "first a: at [1, 2]: 5.0 != 5.0000"),
        ("run/encoder.safetensors", change_type, "b.dtype: 'torch.bfloat16' != 'torch.float16'"),
        ("labels.nii.gz", change_voxel, "first voxels: at [0, 1, 0]: 2 != 9 (1 of 8 differ)"),
        ("labels.nii.gz", change_affine, "affine: at [2, 2]: 1.0 != 1.5"),
        ("scan.b2nd", change_scan, "voxels: at [7]: 7 != 8"),
        ("step-2.pt", change_checkpoint, "optimiser.state.0.step: at []: 2.0 != 3.0"),
        (
            "pairs.npz",
            lambda folder: np.savez(folder / "pairs.npz", query_mm=np.zeros((3, 3), np.float32)),
            "shape (2, 3) != (3, 3)",
        ),
        (
            "run/log.jsonl",
            lambda folder: (folder / "run" / "log.jsonl").write_text(json.dumps(LOG[0]) + "\n"),
            "1.step: only before",
        ),
        (
            "run/encoder.json",
            lambda folder: (folder / "run" / "encoder.json").write_text('{"kind": "encoder", "cases": [], "init": 0}'),
            "cases.0.id: only before",
        ),
        (
            "scores.csv",
            lambda folder: (folder / "scores.csv").write_text("case,dice\nx,0.250001\n"),
            "0.dice: '0.25' != '0.250001'",
        ),
        ("scores.md", lambda folder: (folder / "scores.md").write_text("| x | 0.26 |\n"), "row 0.0: '0.25' != '0.26'"),
        ("step-2.pt", lambda folder: (folder / "step-2.pt").write_bytes(b"cut short"), "cannot be compared"),
    ],
)
def test_one_thing_off_is_one_file_that_differs(sides, name, change, said):
    change(sides[1])
    (row,) = differing(sides)
    assert (row.name, row.state) == (name, "differs")
    assert said in row.said


@pytest.mark.parametrize(("side", "said"), [(0, "only after"), (1, "only before")])
@pytest.mark.parametrize("name", ["curves.html", "run/encoder.json"])
def test_a_file_that_one_side_lacks_is_a_difference(sides, side, said, name):
    (sides[side] / name).unlink()
    (row,) = differing(sides)
    assert (row.name, row.state, row.said) == (name, "missing", said)


def test_nothing_compared_is_no_proof(tmp_path):
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
    assert verdict(compare_folders(tmp_path / "before", tmp_path / "after")).startswith("DIFFERENT")


@pytest.mark.parametrize(("before", "after"), [(0.0, -0.0), (1, 1.0), (True, 1), (None, 0), ("1", 1)])
def test_values_that_python_calls_equal_or_empty_still_differ(before, after):
    assert difference(before, after)
    assert not difference(before, before)


@pytest.fixture
def made(tmp_path, monkeypatch) -> list[str]:
    """Names of the calls that a side makes, which do nothing here; a folder `src` with a package."""
    calls: list[str] = []
    monkeypatch.setattr(Side, "_call", lambda self, step: calls.append(step.name))
    (tmp_path / "src" / "alice3d").mkdir(parents=True)
    (tmp_path / "src" / "alice3d" / "code.py").write_text("NUMBER = 1\n")
    return calls


def side(tmp_path: Path) -> Side:
    return Side("before", tmp_path / "src", tmp_path / "out")


def test_calls_are_made_once_until_the_code_changes(tmp_path, made):
    everything = [step.name for step in STEPS]
    side(tmp_path).run()
    assert made == everything
    made.clear()
    side(tmp_path).run()
    assert made == []
    (tmp_path / "src" / "alice3d" / "code.py").write_text("NUMBER = 2\n")
    side(tmp_path).run()
    assert made == everything


def test_a_call_that_fails_is_made_again_and_those_before_it_are_not(tmp_path, made, monkeypatch):
    def fails(self: Side, step: compare.Step) -> None:
        if step.name == "inspect":
            raise CallFailed("before: inspect ended with 1")

    with monkeypatch.context() as patched:
        patched.setattr(Side, "_call", fails)
        with pytest.raises(CallFailed, match="inspect"):
            side(tmp_path).run()
    side(tmp_path).run()
    assert made == [step.name for step in STEPS if step.name not in ("inputs", "prepare", "prepare-whole")]


def test_a_step_with_other_words_takes_the_old_results_of_all_after_it_away(tmp_path, made, monkeypatch):
    side(tmp_path).run()
    kept, gone = (tmp_path / "out" / "files" / name for name in ("store", "comparison"))
    for folder in (kept, gone):
        folder.mkdir()
    monkeypatch.setattr(compare, "STEPS", STEPS[:-1])
    side(tmp_path).run()
    assert kept.is_dir()
    assert not gone.exists()
