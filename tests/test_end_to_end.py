"""The whole pipeline on nine tiny patients, through the command line: scans to a report, and the same call again."""

import json

import pytest

from alice3d.cli import main
from alice3d.data.store import Store
from alice3d.io.read import read_scan
from alice3d.weights.files import load_encoder

pytestmark = pytest.mark.slow


def call(capsys, *words):
    """Run a command with --json; returns its exit code, its result and what it said on standard error."""
    code = main([*map(str, words), "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else None, said.err


@pytest.fixture(scope="module")
def demo_words(tiny_scans, tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "walked"
    words = ["demo", "--scans", tiny_scans.images, "--labels", tiny_scans.labels, "--splits", tiny_scans.splits]
    words += ["--label-names", tiny_scans.label_names, "--out", out, "--spacing", "8", "--effort", "0.3"]
    return [*words, "--labelled", "2", "--threads", "1", "--device", "cpu"], out


@pytest.fixture(scope="module")
def walked(demo_words):
    words, out = demo_words
    assert main([str(word) for word in words]) == 0
    return out


def test_every_step_left_what_the_next_one_needs(walked, tiny_scans):
    times = json.loads((walked / "times.json").read_text())
    assert all(finished for _, finished in times.values())
    store = Store.open(walked / "store")
    assert {split: len(store.cases(split)) for split in store.splits} == {
        "pretrain": 4,
        "test": 2,
        "train": 2,
        "val": 1,
    }
    encoder, card = load_encoder(walked / "encoder")
    seen = {entry["id"] for entry in card["cases"]}
    assert seen == set(tiny_scans.cases["pretrain"]) | set(tiny_scans.cases["train"])
    assert encoder.in_channels == 2
    for name in ("scratch", "alice", "linear"):
        metrics = json.loads((walked / f"model-{name}" / "evaluation-test" / "metrics.json").read_text())
        assert metrics["cases"] == 2
    linear = json.loads((walked / "model-linear" / "evaluation-test" / "metrics.json").read_text())
    assert linear["dice"]["mean"] > 0.4  # two labelled scans and a minute of learning; chance is below 0.05


def test_prediction_lies_in_the_scans_own_grid(walked, tiny_scans):
    (predicted,) = (walked / "predictions").glob("*.nii.gz")
    labels, scan = read_scan(predicted), read_scan(tiny_scans.images / predicted.name)
    assert labels.array.shape == scan.array.shape
    assert abs(labels.affine - scan.affine).max() < 1e-3


def test_report_shows_the_road(walked):
    text = (walked / "report.html").read_text()
    for section in ("steps", "scans", "matching", "losses", "scores", "prediction", "next"):
        assert f'<section id="{section}">' in text
    assert "alice train-matcher" in text


def test_the_same_call_says_that_it_is_done(walked, demo_words, capsys):
    words, out = demo_words
    before = (out / "report.html").stat().st_mtime_ns
    code, result, said = call(capsys, *words)
    assert code == 0
    assert set(result["dice"]) == {"scratch", "Alice", "linear"}
    assert "already done" in said
    assert (out / "report.html").stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused(walked, demo_words, capsys):
    words, _ = demo_words
    code, result, said = call(capsys, *words, "--seed", "5")
    assert code == 2
    assert result is None
    assert "seed" in said
    assert said.count("\n") == 1


def test_without_labels_it_ends_with_the_encoder(tiny_scans, tmp_path, capsys):
    words = ["demo", "--scans", tiny_scans.images, "--out", tmp_path / "demo", "--spacing", "8", "--effort", "0.2"]
    code, result, _ = call(capsys, *words, "--threads", "1", "--device", "cpu")
    assert code == 0
    assert result["dice"] == {}
    assert (tmp_path / "demo" / "encoder" / "encoder.safetensors").is_file()
    text = (tmp_path / "demo" / "report.html").read_text()
    assert 'id="losses"' in text
    assert 'id="scores"' not in text
