"""The pipeline in Python, from scans to a prediction, and that each call gives what its command gives."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import alice3d
from alice3d.api.training import checked
from alice3d.cli import main
from alice3d.data.settings import PrepareConfig
from alice3d.errors import UserError
from alice3d.matching import pairing
from alice3d.matching.sanity_checks import SanityResult
from alice3d.matching.settings import PairConfig
from alice3d.pretraining.settings import PretrainConfig, TrainMatcherConfig
from alice3d.tasks.settings import EvaluateConfig, FinetuneConfig

ROOT = Path(__file__).parents[1]
COMPUTE = {"threads": 1, "device": "cpu"}
LEARN = {"steps": 2, "batch": 2, "crop": 16, "workers": 0, **COMPUTE}
NET = {"backbone_options": {"widths": [4, 8, 8, 8], "blocks": [1, 1, 1]}, "monitor_every": 0}
BELIEVE_ALL = {"similarity": -1.0, "cycle_mm": 1e6, "fit_mm": 1e6, "certainty": 0.0}


def words_of(settings: dict) -> list[str]:
    """Settings as options of the command line."""
    words = []
    for name, value in settings.items():
        if isinstance(value, dict):
            for key, one in value.items():
                words += [f"--{name}.{key}", ",".join(map(str, one)) if isinstance(one, list) else str(one)]
        else:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


@pytest.fixture(scope="module")
def command():
    """Call a command; its `--json` result."""

    def call(*words, **settings) -> dict:
        import contextlib
        import io

        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            assert main([*map(str, words), *words_of(settings), "--json"]) == 0
        return json.loads(said.getvalue())

    return call


@pytest.fixture(scope="module")
def pipeline(tiny_scans, tmp_path_factory, command):
    """Every step by Python in one folder and by command in another; what each gave, by name."""
    py, line = (tmp_path_factory.mktemp(name) for name in ("python", "command"))
    with pytest.MonkeyPatch.context() as patched:
        # the network is untrained: the sanity checks are tested elsewhere
        patched.setattr(pairing, "run_sanity_checks", lambda *_: SanityResult(1.0, 0.9, 8.0))
        given = {"labels": tiny_scans.labels, "splits": tiny_scans.splits, "label_names": tiny_scans.label_names}
        done = {
            "store": (
                alice3d.prepare(tiny_scans.images, py / "store", spacing=8, **given),
                command("prepare", tiny_scans.images, line / "store", spacing="8", **given),
            )
        }
        store = py / "store"
        done["matcher"] = (
            alice3d.train_matcher(store, py / "matcher", **LEARN, **NET),
            command("train-matcher", store, line / "matcher", **LEARN, **NET),
        )
        for folder in (py, line):
            card = json.loads((folder / "matcher/matcher.json").read_text())
            card["matching"]["acceptance"] = BELIEVE_ALL
            (folder / "matcher/matcher.json").write_text(json.dumps(card))
        few = {"scan_pairs": 4, "points": 80, **COMPUTE}
        done["pairs"] = (
            alice3d.pair(store, done["matcher"][0], py / "pairs", **few),
            command("pair", store, line / "matcher", line / "pairs", **few),
        )
        more = {**LEARN, **NET, "options": {"dense_weight": 0.5}}
        done["encoder"] = (
            alice3d.pretrain(store, py / "encoder", pairs=done["pairs"][0], **more),
            command("pretrain", store, line / "encoder", pairs=line / "pairs", **more),
        )
        done["model"] = (
            alice3d.finetune(store, py / "model", encoder=done["encoder"][0], labels=2, **LEARN),
            command("finetune", store, line / "model", encoder=line / "encoder", labels=2, **LEARN),
        )
        done["scores"] = (
            alice3d.evaluate(done["model"][0], done["store"][0], split="val", **COMPUTE),
            command("evaluate", line / "model", store, split="val", **COMPUTE),
        )
    return py, line, done


def test_each_call_fills_its_folder_as_its_command_does(pipeline):
    py, line, done = pipeline
    for name in ("matcher", "encoder", "model"):
        kind = f"{name}/{name}"
        assert (py / f"{kind}.safetensors").read_bytes() == (line / f"{kind}.safetensors").read_bytes()
        assert json.loads((py / f"{kind}.json").read_text()) == json.loads((line / f"{kind}.json").read_text())
    assert (py / "pairs/pairs.npz").read_bytes() == (line / "pairs/pairs.npz").read_bytes()
    assert done["store"][0].open().checksum == alice3d.api.training.PreparedStore(line / "store", {}).open().checksum
    assert (py / "store/splits.json").read_bytes() == (line / "store/splits.json").read_bytes()
    for outcome, result in done.values():
        for key in {*outcome.summary, *result} - {"out", "store", "seconds"}:
            assert outcome.summary[key] == result[key], key


def test_outcomes_hold_what_was_made(pipeline):
    py, _, done = pipeline
    store, matcher, pairs, encoder, model, scores = (outcome for outcome, _ in done.values())
    assert (store.taken, store.refused) == (9, 0)
    assert store.open().splits == ["pretrain", "test", "train", "val"]
    assert isinstance(matcher.matcher(), alice3d.Matcher)
    assert (matcher.steps, encoder.steps, model.steps) == (2, 2, 2)
    assert encoder.loss > 0 < encoder.seconds
    assert pairs.pairs == len(pairs.open()) >= pairs.accepted > 0
    assert encoder.encoder().pyramid(torch.zeros(1, 2, 16, 16, 16))[0].shape[2:] == (16, 16, 16)
    assert encoder.card["method"]["name"] == "alice"
    assert model.model().card["encoder"] is not None
    assert scores.scores["cases"] == 1
    assert scores.out == py / "model/evaluation-val"
    assert (scores.out / "metrics.csv").is_file()
    again = alice3d.pretrain(store, py / "encoder", pairs=pairs, options={"dense_weight": 0.5}, **LEARN, **NET)
    assert again == encoder  # done already


def test_a_command_goes_on_where_python_stopped(pipeline, command):
    py, _, done = pipeline
    more = {**LEARN, **NET, "options": {"dense_weight": 0.5}}
    found = command("pretrain", py / "store", py / "encoder", pairs=py / "pairs", **more)
    assert found == done["encoder"][0].summary
    found = command("finetune", py / "store", py / "model", encoder=py / "encoder", labels=2, **LEARN)
    assert found == done["model"][0].summary


def test_predict_gives_what_the_command_writes(pipeline, tiny_scans, tmp_path, command):
    py, _, _ = pipeline
    scan = next(tiny_scans.images.glob(f"{tiny_scans.cases['test'][0]}*"))
    command("predict", py / "model", scan, tmp_path, **COMPUTE)
    written = nib.load(tmp_path / scan.name)
    made = alice3d.predict(py / "model", scan, device="cpu")
    np.testing.assert_array_equal(made.array, np.asarray(written.dataobj))
    np.testing.assert_allclose(made.affine, written.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alice3d.pretrain("s", "o", stepz=3), r"pretrain: no setting 'stepz'; did you mean 'steps'\?"),
        (lambda: alice3d.pretrain("s", "o", crop="wide"), "pretrain: crop: "),
        (lambda: alice3d.finetune("s", "o", labels=0), "finetune: labels: "),
        (lambda: alice3d.finetune(3, "o"), "finetune: store: "),
        (lambda: alice3d.train_matcher("missing", "o"), "missing"),
        (lambda: alice3d.pretrain("missing", "o", method="alise"), "missing|did you mean 'alice'"),
        (lambda: alice3d.prepare("s", "store", verify=True), "alice prepare --verify STORE"),
        (lambda: alice3d.load_model("missing"), r"no model\.safetensors there"),
        (lambda: alice3d.predict("missing", "x"), r"no model\.safetensors there"),
        (lambda: alice3d.evaluate("missing", "store"), r"no model\.safetensors there"),
    ],
)
def test_wrong_calls_are_user_errors(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_settings_may_be_plain_values():
    given = {"scans": Path("s"), "store": Path("t")}
    settings = {
        "spacing": (1, 1, 2.5),
        "windows": [(-200, 300), (-1000, 1000)],
        "label_names": {1: "liver", 2: "spleen"},
    }
    config = checked(PrepareConfig, "prepare", given, settings)
    assert config.spacing_mm() == (1.0, 1.0, 2.5)
    assert (config.windows, config.label_names) == ("-200:300,-1000:1000", "1=liver,2=spleen")
    split = checked(PairConfig, "pair", {"store": "s", "matcher": Path("m"), "out": "o"}, {"split": ["train", "val"]})
    assert (split.split, split.matcher) == ("train,val", "m")


def test_lists_name_what_calls_take():
    assert {"alice", "mae", "sam"} <= set(alice3d.list_methods())
    assert alice3d.list_backbones() == ["resunet", "swin", "vit"]
    assert {"classification", "segmentation"} <= set(alice3d.list_tasks())
    shipped = alice3d.list_shipped()
    assert shipped["headneck-ct"] == "matcher"
    assert shipped["headneck-ct-alice"] == "encoder"
    assert {*alice3d.__all__} <= {*dir(alice3d)}
    for name in alice3d.__all__:
        assert getattr(alice3d, name) is not None


def test_importing_costs_nothing():
    heavy = "{'torch', 'numpy', 'scipy', 'nibabel', 'pydantic', 'SimpleITK', 'matplotlib'}"
    code = f"import sys, alice3d, alice3d.api; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    code = code.replace("alice3d.api", "alice3d.commands.prepare").replace("'pydantic', ", "")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


SETTINGS = {
    "prepare": PrepareConfig,
    "train_matcher": TrainMatcherConfig,
    "pair": PairConfig,
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
}


def test_calls_in_the_documentation_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if not (ROOT / "docs").is_dir():
        pytest.skip("the tests run outside a checkout")
    seen = set()
    for page in pages:
        for body in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for node in ast.walk(ast.parse(body)):
                name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                if not re.fullmatch(r"alice3d\.\w+", name):
                    continue
                call = getattr(alice3d, name.removeprefix("alice3d."))
                words = {word.arg: word for word in node.keywords}
                inspect.signature(call).bind(*node.args, **words)
                kind = SETTINGS.get(call.__name__)
                assert kind is None or set(words) <= set(kind.model_fields), f"{page.name}: {ast.unparse(node)}"
                seen.add(call.__name__)
    assert {"prepare", "pretrain", "predict", "match"} <= seen
