"""Output folders: new, going on, done, and refused when they hold something else."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from alice3d import files, outputs, replacement
from alice3d.config import OutputConfig
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


def test_results_of_another_kind_are_never_replaced(tmp_path: Path) -> None:
    outputs.begin(tmp_path, "encoder", SETTINGS, state="new")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"holds: encoder; wanted: model; .* choose another folder"):
            outputs.check(tmp_path, "model", SETTINGS, overwrite=overwrite)


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


class Call(OutputConfig):
    """A command for the tests."""

    steps: int = 1
    """How many."""


def make(out: Path, *, overwrite: bool = False, steps: int = 1, stop: str = "", text: str = "") -> str:
    """A run that writes weights; it stops before its end, or just before it is put in place. Returns its state."""
    with outputs.claimed(Call(out=out, overwrite=overwrite, steps=steps), "model") as output:
        state = output.check(output.config.settings(), results=["weights"])
        if state == "done":
            return state
        outputs.begin(output.folder, "model", output.config.settings(), state=state, overwrite=overwrite)
        (output.folder / "log").write_text(f"{steps}")
        if stop == "begun":
            raise KeyboardInterrupt
        (output.folder / "weights").write_text(text or f"weights of {steps}")
        if stop == "complete":
            outputs.finish(output.folder, {"out": str(outputs.shown(output.folder))}, results=["weights"])
            raise KeyboardInterrupt
        output.finish({"out": str(outputs.shown(output.folder))}, results=["weights"])
        return state


def stopped(out: Path, **how: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(out, **how)


def test_the_old_result_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert make(out) == "new"
    (out / "notes.txt").write_text("mine")
    stopped(out, steps=2, overwrite=True, stop="begun")
    assert (out / "weights").read_text() == "weights of 1"
    assert outputs.earlier_result(out) == {"out": str(out)}
    assert make(out) == "done"  # it is whole, and what it was
    with pytest.raises(UserError, match="steps 1, this call has 3"):
        make(out, steps=3)
    assert make(out, steps=2, overwrite=True) == "started"  # the same command goes on
    assert (out / "weights").read_text() == "weights of 2"
    assert outputs.earlier_result(out) == {"out": str(out)}
    assert sorted(path.name for path in out.iterdir()) == ["log", "notes.txt", "status.json", "weights"]
    assert make(out, steps=2) == "done"


def test_a_replacing_run_goes_on_without_overwrite_too(tmp_path: Path) -> None:
    make(tmp_path)
    stopped(tmp_path, steps=2, overwrite=True, stop="begun")
    assert make(tmp_path, steps=2) == "started"
    assert (tmp_path / "weights").read_text() == "weights of 2"


def test_an_interrupted_overwriting_run_in_a_new_folder_goes_on(tmp_path: Path) -> None:
    stopped(tmp_path / "run", overwrite=True, stop="begun")
    assert make(tmp_path / "run", overwrite=True) == "started"
    stopped(tmp_path / "other", stop="begun")
    assert make(tmp_path / "other", overwrite=True) == "new"  # asked for afresh


def test_a_complete_run_is_put_in_place_after_a_kill(tmp_path: Path) -> None:
    make(tmp_path)
    stopped(tmp_path, steps=2, overwrite=True, stop="complete")
    assert (tmp_path / "weights").read_text() == "weights of 1"
    assert make(tmp_path, steps=2) == "done"
    assert (tmp_path / "weights").read_text() == "weights of 2"
    assert not (tmp_path / replacement.REPLACEMENT).exists()


@pytest.mark.parametrize("at", range(4))
def test_putting_in_place_can_be_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    make(tmp_path)
    (tmp_path / "mine").write_text("mine")
    stopped(tmp_path, steps=2, overwrite=True, stop="complete")
    moves = 0
    move = os.replace

    def killed(*words: Any) -> None:
        nonlocal moves
        moves += 1
        if moves > at:
            raise KeyboardInterrupt
        move(*words)

    with monkeypatch.context() as patched:
        patched.setattr(replacement.os, "replace", killed)
        with contextlib.suppress(KeyboardInterrupt):
            replacement.put_in_place(tmp_path)
    assert make(tmp_path, steps=2) == "done"
    found = {path.name: path.read_text() for path in tmp_path.iterdir() if path.name != "status.json"}
    assert found == {"log": "2", "mine": "mine", "weights": "weights of 2"}


def test_scores_go_with_their_model_and_other_runs_stay(tmp_path: Path) -> None:
    make(tmp_path)
    for name, kind in (("evaluation-test", "evaluation"), ("other", "prediction")):
        outputs.begin(tmp_path / name, kind, {}, state="new")
        (tmp_path / name / "metrics.csv").write_text("")
        outputs.finish(tmp_path / name, {})
    (tmp_path / "evaluation-mine").mkdir()
    (tmp_path / "evaluation-mine" / "notes.txt").write_text("mine")
    stopped(tmp_path, steps=2, overwrite=True, stop="begun")
    assert (tmp_path / "evaluation-test" / "metrics.csv").exists()
    make(tmp_path, steps=2, overwrite=True)
    assert not (tmp_path / "evaluation-test").exists()
    assert (tmp_path / "other" / "metrics.csv").exists()
    assert (tmp_path / "evaluation-mine" / "notes.txt").exists()


@pytest.mark.parametrize("content", [None, ""])
def test_done_is_said_after_looking_at_the_results(tmp_path: Path, content: str | None) -> None:
    make(tmp_path)
    assert make(tmp_path) == "done"
    (tmp_path / "weights").unlink()
    if content is not None:
        (tmp_path / "weights").write_text(content)
    assert make(tmp_path) == "started"
    assert (tmp_path / "weights").read_text() == "weights of 1"
    (tmp_path / "log").unlink()  # no result
    assert make(tmp_path) == "done"


def test_a_file_of_somebody_else_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("mine")
    with pytest.raises(UserError, match="weights lies there and is not of an earlier run"):
        make(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_refused_call_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError), outputs.claimed(Call(out=tmp_path / "a" / "b"), "model"):
        raise UserError("no such store")
    assert list(tmp_path.iterdir()) == []


def test_one_run_at_a_time(tmp_path: Path) -> None:
    config = Call(out=tmp_path / "run", overwrite=True)
    named = pytest.raises(UserError, match=f"process {os.getpid()} on ")
    with outputs.claimed(config, "model"), named, outputs.claimed(config, "model"):
        pass
    with outputs.claimed(config, "model"):
        pass
