"""match, pair and evaluate-matcher from the command line: results, restart, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from calling import call, result

from alice3d.commands.match import _check_point
from alice3d.data.pairs import PairsTable
from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.matching import Matcher, pairing
from alice3d.matching.sanity_checks import SanityResult


@pytest.fixture
def passing(monkeypatch):
    """The network is untrained: the sanity checks are tested elsewhere."""
    monkeypatch.setattr(pairing, "run_sanity_checks", lambda *_: SanityResult(1.0, 0.9, 8.0))


def inside(store: Path, number: int = 0) -> tuple[str, str, str]:
    """Two case ids, and a point in the first one's body."""
    cases = Store.open(store).cases()
    point = np.mean(cases[number].body_box_mm, axis=0)
    return cases[number].id, cases[number + 1].id, ",".join(f"{mm:.1f}" for mm in point)


def test_pair_writes_a_table_and_its_report(capsys, passing, tiny_store, tiny_matcher, tmp_path):
    out = tmp_path / "pairs"
    words = ("pair", tiny_store, tiny_matcher, out, "--scan-pairs", 5, "--points", 80, "--csv")
    found = result(capsys, *words)
    assert {"pairs", "accepted", "cycle_mm_median", "self_check_mm", "mirror_check"} <= set(found)
    assert found["mirror_check"] is True
    table = PairsTable.open(out)
    assert len(table.scan_pairs()) == 5
    assert found["pairs"] == len(table)
    assert found["accepted"] <= found["pairs"]
    store = Store.open(tiny_store)
    matched = [case for case in store.cases() if case.split in ("pretrain", "train")]
    assert table.card["store"] == store.checksum_of(matched)
    splits = {Store.open(tiny_store).case(name).split for pair in table.scan_pairs() for name in pair}
    assert splits <= {"pretrain", "train"}
    for name in ("quality.json", "scan_pairs.csv", "quality.png", "pairs.csv.gz"):
        assert (out / name).stat().st_size > 0
    assert not (out / "embeddings").exists()
    with (out / "scan_pairs.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 5
    before = (out / "pairs.npz").read_bytes()
    code, _, _ = call(capsys, *words)
    assert code == 0
    assert (out / "pairs.npz").read_bytes() == before


def test_interrupted_pair_goes_on_to_the_same_table(capsys, passing, tiny_store, tiny_matcher, tmp_path, monkeypatch):
    from alice3d.matching import pair_work

    words = ("--scan-pairs", 4, "--points", 60)
    result(capsys, "pair", tiny_store, tiny_matcher, tmp_path / "whole", *words)
    write, count = pair_work.write_part, []

    def stop_after_two(path, rows):
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(path)
        write(path, rows)

    monkeypatch.setattr(pair_work, "write_part", stop_after_two)
    assert call(capsys, "pair", tiny_store, tiny_matcher, tmp_path / "cut", *words)[0] != 0
    assert len(list((tmp_path / "cut" / "parts").glob("*.npz"))) == 2
    assert not (tmp_path / "cut" / "pairs.npz").exists()
    monkeypatch.setattr(pair_work, "write_part", write)
    result(capsys, "pair", tiny_store, tiny_matcher, tmp_path / "cut", *words)
    assert (tmp_path / "cut" / "pairs.npz").read_bytes() == (tmp_path / "whole" / "pairs.npz").read_bytes()


@pytest.mark.slow
def test_two_processes_write_the_same_table(capsys, passing, tiny_store, tiny_matcher, tmp_path):
    words = ("--scan-pairs", 4, "--points", 60)
    result(capsys, "pair", tiny_store, tiny_matcher, tmp_path / "one", *words)
    result(capsys, "pair", tiny_store, tiny_matcher, tmp_path / "two", *words, "--jobs", 2)
    one, two = PairsTable.open(tmp_path / "one"), PairsTable.open(tmp_path / "two")
    for pair in one.scan_pairs():
        np.testing.assert_allclose(one.rows(*pair).key_mm, two.rows(*pair).key_mm, atol=1e-2)


def test_pair_stops_where_a_sanity_check_fails(capsys, tiny_store, tiny_matcher, tmp_path, monkeypatch):
    monkeypatch.setattr(pairing, "run_sanity_checks", lambda *_: SanityResult(40.0, 0.9, 8.0))
    code, _, err = call(capsys, "pair", tiny_store, tiny_matcher, tmp_path / "pairs", "--scan-pairs", 2)
    assert code == 1
    assert "self check" in err
    assert not (tmp_path / "pairs").exists()


def test_evaluate_matcher_prints_the_fixed_keys(capsys, tiny_store, tiny_matcher, tiny_scans):
    found = result(
        capsys,
        "evaluate-matcher",
        tiny_matcher,
        tiny_store,
        "--landmarks",
        tiny_scans.landmarks,
        "--split",
        "train,val",
    )
    keys = {
        "pairs", "points", "skipped_cases", "baseline_untrained_mean_mm", "mean_mm", "median_mm", "within_5mm",
        "within_10mm", "by_structure", "cycle_auroc_10mm", "accepted_share", "accepted_within_10mm",
        "baseline_box_mean_mm", "baseline_box_median_mm",
    }  # fmt: skip
    assert keys <= set(found)
    assert found["pairs"] == 3 * 2
    assert found["skipped_cases"] == 6
    assert found["points"] == sum(row["points"] for row in found["by_structure"].values())
    assert keys - {"skipped_cases", "by_structure"} <= set(next(iter(found["by_structure"].values())))


def test_match_by_case_id_and_by_file_gives_one_answer(capsys, tiny_store, tiny_scans, tiny_matcher, tmp_path):
    query, key, point = inside(tiny_store)
    stored = result(
        capsys, "match", tiny_matcher, query, key, "--store", tiny_store, "--point", point,
        "--picture", tmp_path / "stored.png",
    )  # fmt: skip
    assert {"point_ras_mm", "similarity", "cycle_mm", "accepted"} <= set(stored)
    assert (tmp_path / "stored.png").read_bytes().startswith(b"\x89PNG")
    files = [tiny_scans.images / f"{name}.nii.gz" for name in (query, key)]
    filed = result(capsys, "match", tiny_matcher, *files, "--point", point, "--picture", "")
    np.testing.assert_allclose(filed["point_ras_mm"], stored["point_ras_mm"], atol=0.1)


def test_a_scan_saved_with_other_axes_gives_the_same_point(capsys, tiny_store, tiny_scans, tiny_matcher, tmp_path):
    query, key, point = inside(tiny_store)
    files = [tiny_scans.images / f"{name}.nii.gz" for name in (query, key)]
    turned = []
    for n, axes in enumerate(("LPI", "SRA")):
        image = nib.load(files[n])
        wanted = nib.orientations.ornt_transform(
            nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
        )
        turned.append(tmp_path / f"{n}.nii.gz")
        nib.save(image.as_reoriented(wanted), turned[-1])
    words = ("--point", point, "--picture", "")
    straight = result(capsys, "match", tiny_matcher, *files, *words)["point_ras_mm"]
    np.testing.assert_allclose(
        result(capsys, "match", tiny_matcher, *turned, *words)["point_ras_mm"], straight, atol=0.1
    )


def test_a_point_in_lps_is_recognised():
    class Scan:
        body_box_mm = ((10.0, 20.0, 0.0), (100.0, 90.0, 50.0))

        def in_body(self, points):
            low, high = np.array(self.body_box_mm)
            return ((points >= low) & (points <= high)).all(axis=1)

    _check_point(np.array([50.0, 50.0, 20.0]), Scan(), "scan")
    with pytest.raises(UserError, match=r"with x and y negated it lies in the body: is it LPS\?"):
        _check_point(np.array([-50.0, -50.0, 20.0]), Scan(), "scan")


@pytest.mark.parametrize(
    ("point", "message"),
    [("900,0,0", "lies outside the body of"), ("nan,0,0", "three finite numbers"), ("1,2", "point")],
)
def test_points_that_cannot_be_matched_are_refused(capsys, tiny_store, tiny_matcher, point, message):
    query, key, _ = inside(tiny_store)
    code, out, err = call(capsys, "match", tiny_matcher, query, key, "--store", tiny_store, "--point", point)
    assert code == 2
    assert message in err
    assert out == ""
    assert err.count("\n") == 1


def test_faulty_calls_are_named(capsys, tiny_store, tiny_matcher, tiny_scans, tmp_path):
    marks = tmp_path / "marks.csv"
    marks.write_text("case,structure,x_mm,y_mm,z_mm\nnobody,liver,1,2,3\n")
    faults = [
        (("evaluate-matcher", tiny_matcher, tiny_store, "--landmarks", marks), "no landmark of a case in the store"),
        (("evaluate-matcher", tmp_path, tiny_store, "--landmarks", tiny_scans.landmarks), "no matcher.safetensors"),
        (("evaluate-matcher", tiny_matcher, tmp_path, "--landmarks", tiny_scans.landmarks), "no store there"),
        (("evaluate-matcher", tiny_matcher, tiny_store, "--landmarks", marks, "--split", "tset"), "no split 'tset'"),
        (("pair", tiny_store, tiny_matcher, tmp_path / "out", "--split", "val"), "at least two patients"),
        (("match", tiny_matcher, "nobody", "nobody", "--store", tiny_store, "--point", "1,2,3"), "no case 'nobody'"),
        (("match", tiny_matcher, marks, marks, "--point", "1,2,3"), "marks.csv"),
    ]
    for words, message in faults:
        code, out, err = call(capsys, *words)
        assert (code, out) == (2, ""), words
        assert message in err, err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def calibrated(capsys, tiny_matcher, tiny_store, tiny_scans, tmp_path, monkeypatch):
    """A copy of the matcher, calibrated on errors made so; gives its folder and the words of the call."""
    from alice3d.commands import calibrate_matcher
    from alice3d.evaluation.calibration import Measured
    from alice3d.matching.confidence import KINDS

    def measured(config, scans, landmarks, pairs, cuts):
        assert pairs
        assert cuts
        rng = np.random.default_rng(1 if scans.matcher.confidence.models else 0)  # maps depend on the acceptance
        error = rng.uniform(1, 40, 300)
        features = {name: rng.normal(size=300) for name in KINDS["robust"]}
        features["similarity"] = 1 - error / 40
        whole = np.arange(300) % 4 > 0
        gone = np.where(whole | (error < 10), -20.0, 5.0)
        query, key = (np.array([f"c{(n * step) % 10}" for n in range(300)]) for step in (3, 1))
        rows = Measured(features, error, gone, whole, query, key, np.ones(300, bool))
        return dict.fromkeys(KINDS, rows)

    monkeypatch.setattr(calibrate_matcher, "_measure", measured)
    folder = tmp_path / "calibrated"
    shutil.copytree(tiny_matcher, folder)
    words = ("calibrate-matcher", folder, tiny_store, "--landmarks", tiny_scans.landmarks, "--split", "")
    return folder, words, result(capsys, *words)


def test_calibration_is_kept_in_the_card_and_used(capsys, calibrated, tiny_matcher, tiny_store, tmp_path):
    folder, words, found = calibrated
    assert found["held_out"]["robust"]["auroc_10mm"] > 0.95
    assert (folder / "matcher.safetensors").read_bytes() == (tiny_matcher / "matcher.safetensors").read_bytes()
    assert "models" in json.loads((folder / "matcher.json").read_text())["matching"]["trust"]
    before = (folder / "matcher.json").read_bytes()
    assert result(capsys, *words) == found
    assert (folder / "matcher.json").read_bytes() == before
    code, _, err = call(capsys, *words, "--keep", 0.8)
    assert code == 2
    assert "give --overwrite" in err
    assert result(capsys, *words, "--keep", 0.8, "--overwrite")["most_far"] != found["most_far"]
    query, key, point = inside(tiny_store)
    matched = result(capsys, "match", folder, query, key, "--store", tiny_store, "--point", point, "--picture", "")
    assert 0 <= matched["chance_above_20mm"] <= matched["chance_above_10mm"] <= 1
    assert matched["expected_error_mm"] > 0


def test_a_second_calibration_gives_the_card_of_the_first(capsys, calibrated):
    folder, words, found = calibrated
    once = Matcher.load(folder).confidence.checksum
    assert result(capsys, *words, "--overwrite") == found
    assert len(once) == 64
    assert Matcher.load(folder).confidence.checksum == once


def test_pairs_of_a_matcher_calibrated_anew_are_other_pairs(capsys, passing, calibrated, tiny_store, tmp_path):
    folder, words, _ = calibrated
    out = tmp_path / "pairs"
    result(capsys, "pair", tiny_store, folder, out, "--scan-pairs", 2, "--points", 60)
    table = PairsTable.open(out)
    rows = table.rows(*table.scan_pairs(usable=False)[0])
    assert ((rows.far_10mm >= 0) & (rows.far_10mm <= 1)).all()
    assert len(table.card["trust"]) == 64
    result(capsys, *words, "--keep", 0.5, "--overwrite")
    code, _, err = call(capsys, "pair", tiny_store, folder, out, "--scan-pairs", 2, "--points", 60)
    assert code == 2
    assert "another trust" in err


def test_evaluation_with_cut_scans_and_a_plot(capsys, calibrated, tiny_store, tiny_scans, tmp_path):
    folder, _, _ = calibrated
    words = ("--landmarks", tiny_scans.landmarks, "--max-pairs", 2, "--cuts", 1, "--split", "train,val")
    plot = tmp_path / "plots" / "trust.png"
    found = result(capsys, "evaluate-matcher", folder, tiny_store, *words, "--no-baselines", "--plot", plot)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sum(row["points"] for row in found["trust"]["reliability"]) == found["points"]
    assert set(found["field_of_view"]) >= {"gone", "gone_refused", "good_kept"} or found["field_of_view"] == {}


def test_shipped_matchers_are_not_written_to(capsys, tiny_store, tiny_scans, tiny_matcher, monkeypatch):
    from alice3d.weights import files

    monkeypatch.setattr(files, "SHIPPED", tiny_matcher.parent)
    code, _, err = call(capsys, "calibrate-matcher", tiny_matcher.name, tiny_store, "--landmarks", tiny_scans.landmarks)
    assert code == 2
    assert "shipped matchers cannot be changed" in err
