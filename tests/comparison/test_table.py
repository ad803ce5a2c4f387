"""The table of a comparison, its best arms and its tests, and what is written of them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from alice3d.comparison.scores import read_scores, scores_csv
from alice3d.comparison.table import Unit, best, by_patient, paired_tests, table
from alice3d.report.comparison_page import COLUMNS, draw_comparison, page, table_csv


def units(method: str, gain: float, measure: str = "linear_dice", cases: int = 12) -> list[Unit]:
    rng = np.random.default_rng(0)
    level = rng.normal(0.5, 0.2, (3, cases))
    noise = np.random.default_rng(sum(map(ord, method))).normal(0, 0.01, (3, cases))
    return [
        Unit(method, 5, seed, measure, f"c{case}", "", float(level[seed, case] + noise[seed, case] + gain))
        for seed in range(3)
        for case in range(cases)
    ]


def test_table_best_and_tests_tell_a_gain_from_noise():
    given = units("a", 0) + units("better", 0.05) + units("same", 0)
    rows = table(given)
    assert [row["value"] for row in rows if row["method"] == "better"] == [
        pytest.approx(np.mean([u.value for u in given if u.method == "better" and u.seed == seed])) for seed in range(3)
    ]
    assert best(rows) == [
        {"measure": "linear_dice", "labels": 5, "method": "better", "value": pytest.approx(0.55, abs=0.1)}
    ]
    found = {test["method"]: test for test in paired_tests(given, "a")}
    assert set(found) == {"better", "same"}
    gain = found["better"]
    assert gain["low"] > 0.03
    assert gain["difference"] == pytest.approx(0.05, abs=0.01)
    assert max(gain["p"], gain["p_holm"], gain["p_wilcoxon"]) < 0.01
    assert found["same"]["low"] < 0 < found["same"]["high"]
    assert (gain["cases"], gain["seeds"]) == (12, 3)


def test_of_landmarks_less_is_better_and_both_numbers_are_told():
    rng = np.random.default_rng(0)
    names = [f"c{n}" for n in range(6)]
    given = [
        Unit(method, None, seed, "landmark_mm", q, f"{k}/larynx", float(rng.gamma(4, 2) + off))
        for method, off in (("near", 0.0), ("far", 9.0))
        for seed in (0, 1)
        for q in names
        for k in names
        if q != k
    ]
    rows = table(given)
    assert {row["measure"] for row in rows} == {"landmark_mean_mm", "landmark_median_mm"}
    assert {row["method"] for row in best(rows)} == {"near"}
    (test,) = paired_tests(given, "far")
    assert test["measure"] == "landmark_mean_mm"
    assert test["high"] < 0
    assert test["cases"] == 6


def test_only_what_both_arms_have_is_compared():
    given = units("a", 0) + [unit for unit in units("b", 0.1) if unit.seed < 2 and unit.case != "c0"]
    (test,) = paired_tests(given, "a")
    assert (test["cases"], test["seeds"]) == (11, 2)


def test_what_is_written_can_be_read():
    given = units("a", 0) + units("b", 0.05)
    rows = table(given)
    read = list(csv.DictReader(io.StringIO(table_csv(rows))))
    assert tuple(read[0]) == COLUMNS
    assert read[0]["labels"] == "5"
    text = page(rows, paired_tests(given, "a"), reference="a", about=["Two arms."], how_tested="as it is")
    assert "| b | " in text
    assert text.count("| a |") == 1
    assert draw_comparison(rows, "a").startswith(b"\x89PNG")


def test_a_patient_with_several_cases_counts_as_one():
    given = units("a", 0) + units("better", 0.05)
    twins = [replace(unit, case=f"{unit.case}x") for unit in given]
    patients = {f"c{n}x": f"c{n}" for n in range(12)}
    assert by_patient([*given, *twins], patients) == given
    assert by_patient(given, patients) == given
    doubled, once = paired_tests(by_patient([*given, *twins], patients), "a", patients), paired_tests(given, "a")
    assert doubled == once
    marks = [Unit(m, None, 0, "landmark_mm", f"c{q}", f"c{k}/s", 10.0 + q + k * (m == "b")) for m in "ab"
             for q in range(6) for k in range(6) if q != k]  # fmt: skip
    pairs = {f"c{n}": f"c{n - n % 2}" for n in range(6)}
    assert by_patient(marks, pairs) == marks
    wide, narrow = paired_tests(marks, "a", pairs)[0], paired_tests(marks, "a")[0]
    assert wide["cases"] == 3
    assert wide["high"] - wide["low"] > narrow["high"] - narrow["low"]


def test_scores_read_back_as_they_were():
    given = [*units("a", 0), Unit("a", None, 1, "landmark_mm", "c1", "c2/left, lower/lobe", 1 / 3)]
    text = scores_csv(given, {"c2": "c1"})
    rows = list(csv.DictReader(io.StringIO(text)))
    assert (rows[-1]["key"], rows[-1]["structure"], rows[-1]["labels"]) == ("c2", "left, lower/lobe", "")
    assert [float(row["value"]) for row in rows] == [unit.value for unit in given]
    assert rows[2]["patient"] == "c1"


def test_scores_in_a_file(tmp_path):
    given = [*units("a", 0), Unit("b", None, 1, "landmark_mm", "c1", "c2/chin", 2.5)]
    (tmp_path / "scores.csv").write_text(scores_csv(given, {"c2": "c1"}))
    read, patients = read_scores(tmp_path / "scores.csv")
    assert read == given
    assert patients["c2"] == "c1"
