"""The objective and the tasks that the how-to shows run as they stand, from a user's own package."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from calling import call, result

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.sampling.base import Masks
from alice3d.data.sampling.crops import ViewSettings
from alice3d.data.sampling.matched_pair import MatchedPair
from alice3d.data.store import Store
from alice3d.engine.loader import collate
from alice3d.engine.optim import GROUP_KEYS
from alice3d.errors import UserError
from alice3d.nn.backbones.registry import build_backbone
from alice3d.tasks.base import find_task, task_names

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to"
SMALL = [
    *("--crop", "24", "--batch", "4", "--steps", "2", "--backbone-options.widths", "4,6,8,12"),
    *("--backbone-options.blocks", "1,1,1"),
]
NETWORK = SMALL[6:]


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


def rows_of(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table under a heading, without its head."""
    text = (HOW_TO / page).read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_an_objective_of_ones_own(own: Path, tiny_store: Path, tmp_path: Path, capsys) -> None:
    files = ["pooled_contrast.py", "seeded_noise.py", "trained_volume_task.py", "volume_task.py"]
    assert sorted(path.name for path in own.iterdir()) == files
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


def test_seeded_noise_of_a_batch_is_that_of_its_samples(own: Path) -> None:
    noise_like = importlib.import_module("own_code.seeded_noise").noise_like
    number = torch.tensor([3, 4, 70])
    noise = noise_like(torch.zeros(3, 2, 4, 4, 4), number)
    assert noise.shape == (3, 2, 4, 4, 4)
    assert torch.equal(noise[1:2], noise_like(torch.zeros(1, 2, 4, 4, 4), number[1:2]))
    assert not torch.equal(noise[0], noise[1])


@pytest.mark.parametrize("masks", [True, False])
def test_the_table_of_keys_is_what_a_batch_holds(tiny_store: Path, masks: bool) -> None:
    store = Store.open(tiny_store)
    views = ViewSettings(crop=16, spacing_mm=(8.0, 8.0, 8.0))
    drawn = Masks() if masks else None
    sampler = MatchedPair(store=store, cases=store.cases(), rule=IntensityRule(), settings=views, masks=drawn)
    batch = collate([sampler[0], sampler[1]])
    shapes: dict[str, int] = {}
    for first, shape, _, without in rows_of("add-an-objective.md", "What a batch holds"):
        if masks or without == "yes":
            key = re.findall(r"`(\w+)`", first)[0]
            shapes[key] = len(shape.split())
            if "one for both" not in first:
                shapes[re.sub(r"^q|_q$", lambda found: found[0].replace("q", "k"), key)] = shapes[key]
    intensity = {key: 2 for key in ("intensity_q_target", "intensity_k_target") if masks}
    assert {key: value.ndim for key, value in batch.items()} == shapes | intensity


def test_the_table_of_groups_lists_the_keys_that_are_taken() -> None:
    rows = rows_of("add-an-objective.md", "Groups of weights")
    assert tuple(row[0].strip("`") for row in rows) == GROUP_KEYS


BROKEN = {
    "F.normalize(self.projector(tokens.mean(dim=1)), dim=-1)": (
        'batch["visible_k"]',
        1,
        "alice: KeyError in your own pooled_contrast.py, line LINE; run it again with --debug to see why\n",
    ),
    '{"loss": loss, "contrast"': (
        '{"contrast"',
        2,
        "alice: PooledContrast.forward: the key 'loss' is missing; returned are contrast\n",
    ),
    '"contrast": loss.detach()': (
        '"contrast": [1.0]',
        2,
        "alice: PooledContrast.forward: 'contrast' must be a scalar tensor (shape ()), got a list\n",
    ),
}


@pytest.mark.parametrize("right", BROKEN)
def test_a_mistake_in_ones_own_file_is_said_to_be_there(
    own: Path, tiny_store: Path, tmp_path: Path, capsys, right: str
) -> None:
    wrong, code, message = BROKEN[right]
    file = own / "pooled_contrast.py"
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong))
    message = message.replace("LINE", str(text[: text.index(right)].count("\n") + 1))
    words = ["pretrain", tiny_store, tmp_path / "run", "--method", "own_code.pooled_contrast", *SMALL, "--json"]
    assert call(capsys, *words) == (code, "", message)
    assert call(capsys, *words[:3], "--method", "mae", *SMALL, "--steps", "1", "--overwrite")[0] == 0


def test_the_message_of_a_mistake_is_not_printed(own: Path, tiny_store: Path, tmp_path: Path, capsys) -> None:
    file = own / "pooled_contrast.py"
    file.write_text(file.read_text().replace("loss = F", 'raise ValueError("DOE^JANE")\n        loss = F'))
    words = ["pretrain", tiny_store, tmp_path / "run", "--method", "own_code.pooled_contrast", *SMALL]
    code, _, err = call(capsys, *words)
    assert (code, "DOE" in err) == (1, False)
    assert "ValueError in your own pooled_contrast.py, line " in err
    with pytest.raises(ValueError, match="DOE"):
        call(capsys, *words, "--debug")


@pytest.mark.filterwarnings("error:Converting a tensor")
def test_a_task_of_ones_own(own: Path, tiny_store: Path, tiny_scans, tmp_path: Path, capsys) -> None:
    model = tmp_path / "model"
    made = result(capsys, "finetune", tiny_store, model, "--task", "own_code.volume_task", *NETWORK)
    assert made["loss"] < 10  # millilitres, on the cases that it was fitted to
    assert result(capsys, "finetune", tiny_store, model, "--task", "own_code.volume_task", *NETWORK) == made
    scores = result(capsys, "evaluate", model, tiny_store)
    assert scores["cases"] == 2
    assert scores["mean_error_ml"] > 0
    rows = (model / "evaluation-test" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3
    image = tiny_scans.images / f"{rows[1].split(',')[0]}.nii.gz"
    predicted = result(capsys, "predict", model, image, tmp_path / "out")
    assert predicted["written"] == ["volumes.csv"]
    assert predicted["refused"] == []
    assert (tmp_path / "out" / "volumes.csv").read_text().splitlines()[1].split(",")[0] == rows[1].split(",")[0]
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(image.read_bytes()[:200])
    code, _, err = call(capsys, "predict", model, broken, tmp_path / "none", "--threads", "1")
    assert code == 2
    assert "none of 1 scans can be read" in err


def test_a_trained_task_of_ones_own(own: Path, tiny_store: Path, tmp_path: Path, capsys) -> None:
    model = tmp_path / "model"
    words = ["--task", "own_code.trained_volume_task", "--batch", "2", "--steps", "3", *NETWORK]
    made = result(capsys, "finetune", tiny_store, model, *words)
    assert made["steps"] == 3
    assert "error_ml" in json.loads((model / "log.jsonl").read_text().splitlines()[-1])
    assert result(capsys, "evaluate", model, tiny_store)["cases"] == 2


def test_settings_that_a_task_does_not_use_are_refused(own: Path, tiny_store: Path, tmp_path: Path, capsys) -> None:
    start = ["finetune", tiny_store, tmp_path / "model"]
    for task, option, value in (
        ("own_code.volume_task", "--validate-every", "5"),
        ("own_code.volume_task", "--head", "linear"),
        ("own_code.volume_task", "--steps", "9"),
        ("own_code.trained_volume_task", "--crop", "32"),
        ("segmentation", "--pool", "class"),
        ("classification", "--structure-weight", "2"),
    ):
        code, _, err = call(capsys, *start, "--task", task, option, value)
        assert code == 2
        assert re.fullmatch(rf"alice: {option}: the task \w+ does not use it \(see `uses`\); leave it out\n", err)
    assert not (tmp_path / "model").exists()
    assert call(capsys, *start, "--task", "own_code.volume_task", "--threads", "1", *NETWORK)[0] == 0
    code, _, err = call(capsys, "evaluate", start[2], tiny_store, "--tolerance", "3")
    assert (code, "--tolerance: the task Volume does not use it" in err) == (2, True)


def test_names_that_are_none_are_refused_with_the_nearest() -> None:
    assert task_names() == ["classification", "segmentation"]
    with pytest.raises(UserError, match="task: 'segmentaton' is unknown; did you mean 'segmentation'"):
        find_task("segmentaton")
    with pytest.raises(UserError, match="backbone: 'resnet' is unknown; did you mean 'resunet'"):
        build_backbone("resnet", 1)
