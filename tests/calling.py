"""Call the command line from a test."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
from safetensors.torch import load_file

from alice3d.cli import main
from alice3d.errors import WorkFailed


def call(capsys, *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def result(capsys, *words: object) -> dict:
    """What `--json` prints of a call that succeeds."""
    code, out, err = call(capsys, *words, "--json", "--threads", "1")
    assert code == 0, err
    return json.loads(out)


@contextlib.contextmanager
def stopped_after(monkeypatch, task: type, step: int) -> Iterator[None]:
    """Training of a task inside ends in `WorkFailed` once it has done a step."""
    after_step = task.after_step

    def stop(self, at):
        after_step(self, at)
        if at == step:
            raise WorkFailed("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(task, "after_step", stop)
        with pytest.raises(WorkFailed, match="stopped"):
            yield


def same_weights(one, two) -> bool:
    """Whether two model folders hold the same weights, bit by bit."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    return first.keys() == second.keys() and all((first[key] == second[key]).all() for key in first)
