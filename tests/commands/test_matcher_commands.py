"""match, pair and evaluate-matcher from the command line: results, restart, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alice3d.cli import main
from alice3d.commands.match import _check_point
from alice3d.data.pairs import PairsTable
from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.matching import guards
from alice3d.matching.guards import GuardResult


@pytest.fixture
def passing(monkeypatch):
    """The network is untrained: the guards are tested elsewhere."""
    monkeypatch.setattr(guards, "run_guards", lambda *_: GuardResult(1.0, 0.9, 8.0))


def call(capsys, *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def result(capsys, *words: object) -> dict:
    code, out, err = call(capsys, *words, "--json", "--threads", "1")
    assert code == 0, err
    return json.loads(out)


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
    assert table.card["store"] == Store.open(tiny_store).checksum
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
    from alice3d.matching import pairing

    words = ("--scan-pairs", 4, "--points", 60)
    result(capsys, "pair", tiny_store, tiny_matcher, tmp_path / "whole", *words)
    write, count = pairing.write_part, []

    def stop_after_two(path, rows):
        if len(count) == 2:
            raise KeyboardInterrupt
        count.append(path)
        write(path, rows)

    monkeypatch.setattr(pairing, "write_part", stop_after_two)
    assert call(capsys, "pair", tiny_store, tiny_matcher, tmp_path / "cut", *words)[0] != 0
    assert len(list((tmp_path / "cut" / "parts").glob("*.npz"))) == 2
    assert not (tmp_path / "cut" / "pairs.npz").exists()
    monkeypatch.setattr(pairing, "write_part", write)
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


def test_pair_stops_where_a_guard_fails(capsys, tiny_store, tiny_matcher, tmp_path, monkeypatch):
    monkeypatch.setattr(guards, "run_guards", lambda *_: GuardResult(40.0, 0.9, 8.0))
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
        (("pair", tiny_store, tiny_matcher, tmp_path / "out", "--split", "val"), "two patients at least"),
        (("match", tiny_matcher, "nobody", "nobody", "--store", tiny_store, "--point", "1,2,3"), "no case 'nobody'"),
        (("match", tiny_matcher, marks, marks, "--point", "1,2,3"), "marks.csv"),
    ]
    for words, message in faults:
        code, out, err = call(capsys, *words)
        assert (code, out) == (2, ""), words
        assert message in err, err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
