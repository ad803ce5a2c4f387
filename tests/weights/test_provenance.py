"""A scan that training saw is known again under another name, format and spacing."""

from __future__ import annotations

from pathlib import Path

import pytest
from dicom_files import write_series
from scan_files import affine_of, head_like, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.errors import UserError
from alice3d.weights.provenance import described, guard, guard_scores, leaked, of_seen_patients


def store_of(scans: Path, store: Path, spacing: float) -> Store:
    prepare(scans, store, PrepareOptions(spacing_mm=(spacing,) * 3, modality="ct"))
    return Store.open(store)


def test_scan_is_known_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nifti(tmp_path / "one" / "a.nii.gz", head_like(seed=1), affine_of(axes="LPS"))
    write_nifti(tmp_path / "one" / "b.nii.gz", head_like(seed=2), affine_of(axes="LPS"))
    write_series(tmp_path / "two" / "renamed", head_like(seed=1), affine_of(axes="LPS"))
    write_nifti(tmp_path / "two" / "other.nii", head_like(seed=3), affine_of(axes="LPS"))
    one, two = store_of(tmp_path / "one", tmp_path / "s1", 3.0), store_of(tmp_path / "two", tmp_path / "s2", 2.0)
    encoder = {"method": "alice", "cases": described(one.cases()[:1])}
    card = {"cases": described(one.cases()[1:]), "encoder": encoder}
    assert leaked(card, two.cases()) == ["renamed"]
    with pytest.raises(UserError, match=r"1 scans of the test split were seen in pre-training \(renamed\)"):
        guard(card, two.cases(), what="test split", strict=True)
    assert guard(card, two.cases(), what="test split", strict=True, force=True) == ["renamed"]
    assert guard(card, two.cases(), what="training split", strict=False) == ["renamed"]
    assert "were seen in pre-training" in capsys.readouterr().err
    assert guard(card, [two.case("other")], what="test split", strict=True) == []
    assert leaked({"cases": [{"id": "x", "checksum": two.case("other").checksum}]}, two.cases()) == ["other"]
    assert guard({"cases": 3}, two.cases(), what="test split", strict=True) == []


def test_another_scan_of_a_patient_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["image,patient,split"]
    for number, (patient, split) in enumerate((("p", "train"), ("p", "train"), ("q", "test"), ("q", "test"))):
        write_nifti(tmp_path / f"c{number}.nii.gz", head_like(seed=number))
        lines.append(f"c{number}.nii.gz,{patient},{split}")
    (tmp_path / "scans.csv").write_text("\n".join(lines) + "\n")
    one = store_of(tmp_path / "scans.csv", tmp_path / "s1", 4.0)
    card = {"cases": described([one.case("c2")]), "split": "train"}
    assert set(card["cases"][0]) == {"id", "checksum", "content", "patient"}
    assert "patient" not in described([one.case("c0")])[0] or one.case("c0").patient != "p"
    test = one.cases("test")
    assert leaked(card, test) == ["c2"]
    assert of_seen_patients(card, test) == ["c3"]
    assert guard(card, test, what="test split", strict=True, force=True) == ["c2", "c3"]
    with pytest.raises(UserError, match=r"of 1 scans of the test split \(c3\) other scans of the same patients"):
        guard(card, [one.case("c3")], what="test split", strict=True)
    with pytest.raises(UserError, match="trained on other scans of the patients of 1 of 1 cases of split 'test'"):
        guard_scores(card, [one.case("c3")], "test", allow_seen=False)
    guard_scores(card, [one.case("c3")], "test", allow_seen=True)
    assert "do not apply to new scans" in capsys.readouterr().err
    # another store has another salt: the voxels of the patient's other scan tell
    two = store_of(tmp_path / "scans.csv", tmp_path / "s2", 5.0)
    assert one.case("c2").patient != two.case("c2").patient
    assert of_seen_patients(card, [two.case("c3")]) == []
    assert of_seen_patients(card, [two.case("c3")], two.cases()) == ["c3"]
