"""Output folders: new, going on, done, and refused when they hold something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from alice3d import files, outputs
from alice3d.errors import UserError

SETTINGS = {"steps": 10, "options": {"a": 1}, "inputs": {"store": "abc"}}


def test_a_folder_is_new_then_started_then_done(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    assert outputs.check(out, "encoder", SETTINGS, overwrite=False) == "new"
    assert not out.exists()  # looking leaves nothing behind
    outputs.begin(out, "encoder", SETTINGS, state="new")
    assert outputs.check(out, "encoder", SETTINGS, overwrite=False) == "started"
    outputs.finish(out, {"loss": 1.5})
    assert outputs.check(out, "encoder", SETTINGS, overwrite=False) == "done"
    assert outputs.earlier_result(out) == {"loss": 1.5}


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("model", SETTINGS, "holds: encoder; wanted: model"),
        ("encoder", {**SETTINGS, "steps": 20}, "steps 10, this call has 20"),
        ("encoder", {**SETTINGS, "options": {"a": 2}}, "options.a 1, this call has 2"),
        ("encoder", {**SETTINGS, "inputs": {"store": "other"}}, "another store"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, kind: str, settings: dict[str, object], message: str) -> None:
    outputs.begin(tmp_path, "encoder", SETTINGS, state="new")
    with pytest.raises(UserError, match=message):
        outputs.check(tmp_path, kind, settings, overwrite=False)
    assert outputs.check(tmp_path, kind, settings, overwrite=True) == "new"


def test_foreign_files_are_refused_and_never_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds something else"):
        outputs.check(tmp_path, "encoder", SETTINGS, overwrite=False)
    state = outputs.check(tmp_path, "encoder", SETTINGS, overwrite=True)
    outputs.begin(tmp_path, "encoder", SETTINGS, state=state, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("ended", [True, False])
def test_overwriting_twice_removes_only_what_the_command_made(tmp_path: Path, ended: bool) -> None:
    mine = {"thesis.txt": "mine", "scans/a.nii.gz": "mine", "scans/empty/": ""}
    for name, text in mine.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text(text)
    for settings in ({"steps": 1}, {"steps": 2}):
        outputs.begin(tmp_path, "encoder", settings, state="new", overwrite=True)
        assert {path.name for path in tmp_path.iterdir()} == {"thesis.txt", "scans", outputs.MARKER}
        files.write_text(tmp_path / "checkpoints" / "last.pt", "old")
        if ended:
            outputs.finish(tmp_path, {})
    assert (tmp_path / "scans" / "a.nii.gz").read_text() == (tmp_path / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "scans" / "empty").is_dir()


def test_what_came_into_a_finished_folder_stays(tmp_path: Path) -> None:
    outputs.begin(tmp_path, "encoder", SETTINGS, state="new")
    files.write_text(tmp_path / "checkpoints" / "last.pt", "old")
    outputs.finish(tmp_path, {})
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoints" / "kept.pt").write_text("mine")
    outputs.begin(tmp_path / "inner", "model", SETTINGS, state="new")
    outputs.begin(tmp_path, "encoder", {"steps": 3}, state="new", overwrite=True)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"notes.txt", "checkpoints/kept.pt", "inner/status.json", "status.json"}


def test_overwriting_clears_the_earlier_run(tmp_path: Path) -> None:
    outputs.begin(tmp_path, "encoder", SETTINGS, state="new")
    (tmp_path / "log.jsonl").write_text("old")
    outputs.begin(tmp_path, "encoder", {"steps": 3}, state="new", overwrite=True)
    assert not (tmp_path / "log.jsonl").exists()
    assert outputs.check(tmp_path, "encoder", {"steps": 3}, overwrite=False) == "started"


def test_what_a_killed_call_was_writing_is_nothing_and_goes_away(tmp_path: Path) -> None:
    left = tmp_path / f"{files.UNFINISHED}abc.json"
    left.write_text("{")
    assert outputs.check(tmp_path, "encoder", SETTINGS, overwrite=False) == "new"
    outputs.begin(tmp_path, "encoder", SETTINGS, state="new")
    (tmp_path / "checkpoints").mkdir()
    deeper = tmp_path / "checkpoints" / f"{files.UNFINISHED}abc.pt"
    deeper.write_text("")
    outputs.begin(tmp_path, "encoder", SETTINGS, state="started")
    assert not left.exists()
    assert not deeper.exists()
    assert outputs.check(tmp_path, "encoder", SETTINGS, overwrite=False) == "started"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    file = tmp_path / "run"
    file.write_text("x")
    with pytest.raises(UserError, match="is a file"):
        outputs.check(file, "encoder", SETTINGS, overwrite=False)
