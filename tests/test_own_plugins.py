"""The objective and the task that the how-to shows run as they stand, from a user's own package."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from calling import call, result

from alice3d.errors import UserError
from alice3d.nn.backbones.registry import build_backbone
from alice3d.tasks.base import find_task, task_names

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"
SMALL = [
    *("--crop", "24", "--batch", "4", "--steps", "2", "--backbone-options.widths", "4,6,8,12"),
    *("--backbone-options.blocks", "1,1,1"),
]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `own_code` with the files of both pages."""
    folder = tmp_path / "own_code"
    folder.mkdir()
    for page in ("add-an-objective.md", "add-a-task.md"):
        text = (HOW_TO / page).read_text(encoding="utf-8")
        for name, body in re.findall(r'```python title="(\w+\.py)"\n(.*?)```', text, re.DOTALL):
            (folder / name).write_text(body, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("own_code")]:
        sys.modules.pop(name)
    return folder


def test_an_objective_of_ones_own(own: Path, tiny_store: Path, tmp_path: Path, capsys) -> None:
    assert sorted(path.name for path in own.iterdir()) == ["pooled_contrast.py", "volume_task.py"]
    words = ["pretrain", tiny_store, tmp_path / "run", "--method", "own_code.pooled_contrast", *SMALL]
    assert result(capsys, *words, "--options.temperature", "0.2")["steps"] == 2
    card = json.loads((tmp_path / "run" / "encoder.json").read_text())
    assert card["method"] == {"name": "own_code.pooled_contrast", "options": {"temperature": 0.2}}
    assert "learning_rate: 0.002" in (tmp_path / "run" / "config.yaml").read_text()  # the method's own default
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert {"loss", "contrast", "feature_rank"} <= set(json.loads(lines[-1]))
    words[2] = tmp_path / "other"
    assert result(capsys, *words, "--learning-rate", "0.001")["steps"] == 2
    assert "learning_rate: 0.001" in (tmp_path / "other" / "config.yaml").read_text()  # what is given wins
    code, out, err = call(capsys, *words, "--overwrite", "--options.temprature", "0.2")
    assert (code, out) == (2, "")
    assert "did you mean 'temperature'" in err


def test_a_task_of_ones_own(own: Path, tiny_store: Path, tiny_scans, tmp_path: Path, capsys) -> None:
    model = tmp_path / "model"
    options = SMALL[6:]
    made = result(capsys, "finetune", tiny_store, model, "--task", "own_code.volume_task", *options)
    assert made["loss"] < 10  # millilitres, on the cases that it was fitted to
    assert result(capsys, "finetune", tiny_store, model, "--task", "own_code.volume_task", *options) == made
    scores = result(capsys, "evaluate", model, tiny_store)
    assert scores["cases"] == 2
    assert scores["mean_error_ml"] > 0
    assert len((model / "evaluation-test" / "metrics.csv").read_text().splitlines()) == 3
    image = next(iter(sorted(tiny_scans.images.iterdir())))
    predicted = result(capsys, "predict", model, image, tmp_path / "out")
    assert predicted["written"] == ["volumes.csv"]
    assert predicted["refused"] == []
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(image.read_bytes()[:200])
    code, _, err = call(capsys, "predict", model, broken, tmp_path / "none", "--threads", "1")
    assert code == 2
    assert "none of 1 scans can be read" in err


def test_names_that_are_none_are_refused_with_the_nearest() -> None:
    assert task_names() == ["classification", "segmentation"]
    with pytest.raises(UserError, match="task: 'segmentaton' is unknown; did you mean 'segmentation'"):
        find_task("segmentaton")
    with pytest.raises(UserError, match="backbone: 'resnet' is unknown; did you mean 'resunet'"):
        build_backbone("resnet", 1)
