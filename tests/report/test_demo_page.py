"""The report tells what was done, shows only what is there, and hides no loser."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from alice3d.data.pairs import PairRows, PairsTable
from alice3d.data.pairs.table import write_part, write_table
from alice3d.data.store import Store
from alice3d.report.demo_page import DemoReport, Step, clock, verdict, write_report
from alice3d.report.pictures import choose_matches, spread_out


def entry(mean):
    return {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}


def result(dice):
    liver = {"cases": 2, "absent": 0, "missed": 0, "dice": entry(dice), "nsd": entry(dice), "hd95_mm": entry(9.0)}
    return {
        "cases": 2,
        "dice": entry(dice),
        "nsd": entry(dice),
        "hd95_mm": entry(9.0),
        "by_structure": {"liver": liver, "not there": {**liver, "cases": 0}},
        "absent": 2,
        "missed": 0,
    }


@pytest.fixture(scope="module")
def landmarks(tiny_scans):
    marks = {}
    with tiny_scans.landmarks.open() as stream:
        for row in csv.DictReader(stream):
            point = np.array([float(row[f"{axis}_mm"]) for axis in "xyz"])
            marks.setdefault(row["case"], {})[row["structure"]] = point
    return marks


@pytest.fixture(scope="module")
def pairs(tiny_scans, tmp_path_factory, landmarks):
    """A table of one scan pair whose map is a shift."""
    folder = tmp_path_factory.mktemp("pairs")
    query, key = tiny_scans.cases["pretrain"][:2]
    shift = np.mean(list(landmarks[key].values()), axis=0) - np.mean(list(landmarks[query].values()), axis=0)
    points = np.random.default_rng(0).uniform(-120, 120, (200, 3)).astype(np.float32)
    ones = np.ones(200, np.float32)
    rows = PairRows(points, points + shift.astype(np.float32), ones, ones, ones, ones, np.ones(200, bool))
    write_part(folder / "parts" / "0.npz", rows)
    write_table(folder, [(query, key)], [folder / "parts" / "0.npz"], {"store": "s", "matcher": "m"})
    return folder


def test_spread_out_begins_in_the_middle_and_goes_far():
    points = np.array([[0, 0, 0], [1, 0, 0], [50, 0, 0], [-50, 0, 0], [2, 0, 0]], float)
    assert spread_out(points, 3)[0] in (0, 1, 4)
    assert set(spread_out(points, 3)[1:]) == {2, 3}
    assert len(spread_out(points, 10)) == 5


def test_matches_are_true_landmarks_where_there_are_some(tiny_store, pairs, landmarks):
    store, table = Store.open(tiny_store), PairsTable.open(pairs)
    matches = choose_matches(store, table, landmarks)
    assert len(matches) == 3
    for match in matches:
        expected = np.linalg.norm(match.key_mm - landmarks[match.key][match.name])
        assert match.error_mm == pytest.approx(expected)
    unnamed = choose_matches(store, table, {})
    assert [match.error_mm for match in unnamed] == [None] * 3


def report_of(tiny_store, **more):
    steps = [Step("prepare", "store <scans>", "alice prepare 'a&b' store", 61.4)]
    prepared = {"taken": 9, "refused": 1, "reasons": {"truncated: <x>": 1}}
    return DemoReport(title="T", lead="L", steps=steps, store=tiny_store, prepared=prepared, **more)


def test_report_without_anything_past_the_store(tiny_store, tmp_path):
    write_report(tmp_path / "report.html", report_of(tiny_store))
    text = (tmp_path / "report.html").read_text()
    assert "store &lt;scans&gt;" in text
    assert "a&amp;b" in text
    assert "truncated: &lt;x&gt;" in text
    assert "1:01" in text
    assert 'id="scores"' not in text
    assert 'id="matching"' not in text


def test_whole_report(tiny_store, pairs, landmarks, tmp_path):
    log = tmp_path / "run" / "log.jsonl"
    log.parent.mkdir()
    log.write_text("".join(json.dumps({"step": n, "loss": 1 / (n + 1), "class": 0.5}) + "\n" for n in range(30)))
    case = Store.open(tiny_store).cases("test")[0]
    reference = Store.open(tiny_store).label(case.id)[:, :, :]
    matcher = {"pairs": 3, "points": 30, "mean_mm": 12.0, "median_mm": 9.0, "within_10mm": 0.55}
    matcher |= {"baseline_box_mean_mm": 30.0, "baseline_box_median_mm": 28.0, "baseline_untrained_mean_mm": None}
    report = report_of(
        tiny_store,
        pairs=pairs,
        paired={"cycle_mm_median": 3.2, "self_check_mm": 0.1, "mirror_check": True},
        matcher=matcher,
        logs={"Alice": log.parent, "absent": tmp_path / "nowhere"},
        scores={"scratch": result(0.6), "Alice": result(0.5)},
        landmarks=landmarks,
        predicted={"reference": reference, "predicted": reference},
        predicted_case=case.id,
        closing=["alice demo --scans X"],
    )
    write_report(tmp_path / "report.html", report)
    text = (tmp_path / "report.html").read_text()
    for section in ("steps", "scans", "matching", "losses", "scores", "prediction", "next"):
        assert f'<section id="{section}">' in text
    assert text.index("scratch 0.600") < text.index("Alice 0.500")  # whichever wins
    assert text.count("data:image/png") == 1 + 3 + 1
    assert "between volumes" in text
    assert "not there" not in text
    assert "55%" in text
    assert len(text) < 4_000_000


def test_verdict_and_clock():
    assert "Alice 0.700, scratch 0.600" in verdict({"scratch": result(0.6), "Alice": result(0.7)})
    assert clock(61.4) == "1:01"
    assert clock(59.6) == "1:00"


def test_report_is_written_whole_or_not_at_all(tiny_store, tmp_path):
    broken = report_of(tiny_store, predicted={"reference": np.zeros((2, 2, 2))}, predicted_case="nobody")
    with pytest.raises(Exception, match="nobody"):
        write_report(tmp_path / "report.html", broken)
    assert not list(Path(tmp_path).iterdir())
