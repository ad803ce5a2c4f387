"""The demo's plan fits the scans, its steps can be repeated by hand, and wrong inputs stop it before it writes."""

import json
import shlex
from pathlib import Path

import pytest

from alice3d.cli import COMMANDS
from alice3d.cli_arguments import parse
from alice3d.commands.demo import DemoConfig, run
from alice3d.commands.demo_steps import (
    Size,
    Walk,
    command_line,
    crop_for,
    learning_steps,
    segmentation_steps,
    without_pairs,
)
from alice3d.errors import UserError

SIZE = Size(crop=48, patch=32, labels=3, split="test", effort=0.5, seed=1, device="cpu", threads=1)


def steps():
    out = Path("a demo")
    return [*learning_steps(out, SIZE, Path("marks.csv")), *segmentation_steps(out, SIZE)]


def test_each_step_can_be_repeated_by_the_line_that_is_shown():
    for step in steps():
        words = shlex.split(command_line(step))
        assert words[:2] == ["alice", step.command]
        call = parse(step.command, COMMANDS[step.command], type(step.config), words[2:])
        again, first = call.config.model_dump(), step.config.model_dump()
        assert {**again, "device": "", "threads": 0} == {**first, "device": "", "threads": 0}


def test_scratch_and_alice_differ_in_the_encoder_alone():
    models = {step.title: step.config.model_dump() for step in steps() if step.command == "finetune"}
    scratch, alice = models["finetune scratch"], models["finetune Alice"]
    assert {key for key in scratch if scratch[key] != alice[key]} == {"encoder", "out"}


def test_crops_fit_the_scans():
    assert [crop_for(n) for n in (5, 16, 35, 47.5, 48, 200)] == [16, 16, 32, 40, 48, 48]


def test_pretraining_goes_on_without_a_usable_table():
    step = next(step for step in steps() if step.command == "pretrain")
    assert step.config.pairs is not None
    assert without_pairs(step).config.pairs is None


def test_walk_remembers_times_and_what_was_finished(tmp_path, capsys):
    walk = Walk(tmp_path)
    assert walk.take("one", "does it", "alice one", lambda: print("hidden") or {"a": 1}) == {"a": 1}
    with pytest.raises(RuntimeError):
        walk.take("two", "breaks", "alice two", lambda: (_ for _ in ()).throw(RuntimeError))
    kept = json.loads((tmp_path / "times.json").read_text())
    assert kept["one"][1] is True
    assert kept["two"][1] is False
    again = Walk(tmp_path)
    again.take("one", "does it", "alice one", dict)
    said = capsys.readouterr().out
    assert "hidden" not in said
    assert "[1] one: does it" in said
    assert "already done" in said
    assert again.done[0].seconds == kept["one"][0]


def test_labels_without_scans_are_refused(tmp_path):
    with pytest.raises(UserError, match="--labels goes with --scans"):
        run(DemoConfig(out=tmp_path / "demo", labels=tmp_path))
    assert not (tmp_path / "demo").exists()


def test_too_few_scans_are_refused_before_anything_is_written(tmp_path, tiny_scans):
    folder = tmp_path / "scans"
    folder.mkdir()
    for path in sorted(tiny_scans.images.iterdir())[:3]:
        (folder / path.name).symlink_to(path)
    with pytest.raises(UserError, match="3 scans found, the demo needs at least 4"):
        run(DemoConfig(out=tmp_path / "demo", scans=folder))
    with pytest.raises(UserError, match="no such file or folder"):
        run(DemoConfig(out=tmp_path / "demo", scans=tmp_path / "nowhere"))
    assert not (tmp_path / "demo").exists()
