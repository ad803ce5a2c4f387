"""Cases of one patient share a split: whatever names the patient, drawn or given, now and when scans are added."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_series
from pydicom.dataset import Dataset
from scan_files import affine_of, head_like, write_nifti

from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.data.store.splits import default_splits, torn_patients
from alice3d.errors import UserError

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(4.0, 4.0, 4.0), modality="ct")


def table(folder: Path, rows: list[tuple[str, str]], name: str = "scans.csv", labelled: bool = True) -> Path:
    """A CSV of generated scans: id and patient of each, with labels."""
    lines = ["image,label,id,patient"]
    for number, (case, patient) in enumerate(rows):
        image = folder / "scans" / f"{case}.nii.gz"
        if not image.exists():
            write_nifti(image, head_like(seed=number))
            write_nifti(folder / "labels" / f"{case}.nii.gz", (head_like() > 500).astype(np.uint8))
        lines.append(f"scans/{case}.nii.gz,{f'labels/{case}.nii.gz' if labelled else ''},{case},{patient}")
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def of_patient(name: str) -> Callable[[Dataset, int], None]:
    """For `write_series`: gives every slice this PatientID."""

    def change(dataset: Dataset, index: int) -> None:
        dataset.PatientID = name

    return change


def splits_by_patient(store: Path, patients: dict[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for case in Store.open(store).cases():
        found.setdefault(patients[case.id], set()).add(case.split)
    return found


def test_a_column_of_patients_keeps_their_cases_together(tmp_path: Path) -> None:
    rows = [(f"c{n}{visit}", f"MRN-{n}") for n in range(5) for visit in "ab"]
    prepare(table(tmp_path, rows), tmp_path / "s", OPTIONS)
    splits = splits_by_patient(tmp_path / "s", dict(rows))
    assert all(len(found) == 1 for found in splits.values())
    assert sorted(found for one in splits.values() for found in one) == ["test", "train", "train", "train", "val"]
    written = "".join((tmp_path / "s" / name).read_text() for name in ("index.csv", "store.json", "splits.json"))
    assert "MRN" not in written
    cases = {case.id: case for case in Store.open(tmp_path / "s").cases()}
    assert cases["c0a"].patient == cases["c0b"].patient != cases["c1a"].patient
    assert Store.open(tmp_path / "s").patients["c3b"] == "c3a"


def test_another_time_point_joins_its_patient(tmp_path: Path) -> None:
    rows = [(f"c{n}", f"p{n}") for n in range(6)]
    prepare(table(tmp_path, rows), tmp_path / "s", OPTIONS)
    before = {case.id: case.split for case in Store.open(tmp_path / "s").cases()}
    later = [(f"d{n}", f"p{n}") for n in range(6)]
    prepare(table(tmp_path, [*rows, *later]), tmp_path / "s", OPTIONS)
    after = {case.id: case.split for case in Store.open(tmp_path / "s").cases()}
    assert {name: after[name] for name in before} == before
    assert all(after[f"d{n}"] == before[f"c{n}"] for n in range(6))
    more = [(f"e{n}", f"p{n}") for n in range(6)]  # of another list, and without labels
    prepare(table(tmp_path, more, "more.csv", labelled=False), tmp_path / "s", OPTIONS)
    assert all(Store.open(tmp_path / "s").case(f"e{n}").split == before[f"c{n}"] for n in range(6))


def test_patient_id_of_dicom(tmp_path: Path) -> None:
    for n in range(4):
        for visit in "ab":
            folder = tmp_path / "scans" / f"{n}{visit}"
            write_series(folder, head_like(seed=n), affine_of(), change=of_patient(f"HOSP{n}"))
    prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)
    store = Store.open(tmp_path / "s")
    assert len(store.cases()) == 8
    assert len(set(store.patients.values())) == 4
    assert store.patients["2b"] == "2a"
    assert "HOSP" not in (tmp_path / "s" / "index.csv").read_text()
    lines = ["image,patient", *(f"scans/{n}{visit}," for n in range(4) for visit in "ab")]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    prepare(tmp_path / "list.csv", tmp_path / "listed", OPTIONS)
    assert len(set(Store.open(tmp_path / "listed").patients.values())) == 4


def test_placeholders_name_no_patient(tmp_path: Path) -> None:
    rows = [("a", "anonymous"), ("b", "ANONYMOUS "), ("c", ""), ("d", "N/A")]
    prepare(table(tmp_path, rows), tmp_path / "s", OPTIONS)
    assert [case.patient for case in Store.open(tmp_path / "s").cases()] == ["a", "b", "c", "d"]
    assert "salt" not in json.loads((tmp_path / "s" / "store.json").read_text())


def test_one_identifier_for_all_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(table(tmp_path, [(f"c{n}", "0001") for n in range(5)]), tmp_path / "s", OPTIONS)
    assert "all 5 scans bear one patient identifier" in capsys.readouterr().err


def test_splits_that_tear_a_patient_are_refused(tmp_path: Path) -> None:
    scans = table(tmp_path, [("a", "p"), ("b", "p"), ("c", "q")])
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["a", "c"], "test": ["b"]}))
    options = replace(OPTIONS, splits=tmp_path / "splits.json")
    for dry_run in (True, False):
        with pytest.raises(UserError, match=r"a \(train\), b \(test\); name them in one split of splits.json"):
            prepare(scans, tmp_path / "s", replace(options, dry_run=dry_run))
    assert not (tmp_path / "s").exists()
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["c"], "test": ["a", "b"]}))
    prepare(scans, tmp_path / "s", options)
    assert [case.split for case in Store.open(tmp_path / "s").cases()] == ["test", "test", "train"]


def test_a_split_column_that_tears_a_patient_is_refused(tmp_path: Path) -> None:
    table(tmp_path, [("a", "p"), ("b", "p")])
    text = "image,id,patient,split\nscans/a.nii.gz,a,p,train\nscans/b.nii.gz,b,p,test\n"
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=r"a \(train\), b \(test\); give them one split"):
        prepare(tmp_path / "list.csv", tmp_path / "s", OPTIONS)


def test_a_splits_file_may_name_patients(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b", "c")
    listed = {"train": [{"id": "a.nii.gz", "patient": "MRN7"}, "c"], "test": [{"id": "b", "patient": "MRN7"}]}
    (tmp_path / "splits.json").write_text(json.dumps(listed))
    with pytest.raises(UserError, match=r"a \(train\), b \(test\)"):
        prepare(folder, tmp_path / "s", replace(OPTIONS, splits=tmp_path / "splits.json"))
    listed["test"], listed["train"] = [], [*listed["train"], *listed["test"]]
    (tmp_path / "splits.json").write_text(json.dumps(listed))
    prepare(folder, tmp_path / "s", replace(OPTIONS, splits=tmp_path / "splits.json"))
    assert Store.open(tmp_path / "s").patients == {"a": "a", "b": "a", "c": "c"}
    assert "MRN7" not in (tmp_path / "s" / "index.csv").read_text()
    prepare(folder, tmp_path / "s", OPTIONS)  # a call that does not name them does not forget them
    assert Store.open(tmp_path / "s").patients["b"] == "a"


def test_shards_agree_on_patients(tmp_path: Path) -> None:
    rows = [(f"c{n}{visit}", f"p{n}") for n in range(4) for visit in "ab"]
    scans = table(tmp_path, rows)
    for part in (2, 1):
        prepare(scans, tmp_path / "parts", replace(OPTIONS, shard=(part, 2)))
    prepare(scans, tmp_path / "parts", OPTIONS)
    prepare(scans, tmp_path / "whole", OPTIONS)
    parts, whole = Store.open(tmp_path / "parts"), Store.open(tmp_path / "whole")
    assert parts.patients == whole.patients
    assert parts.checksum == whole.checksum
    assert parts.case("c0a").patient != whole.case("c0a").patient  # another salt


def test_draws_of_single_cases_do_not_depend_on_patients() -> None:
    names, ones = [f"c{n:03d}" for n in range(40)], [f"u{n}" for n in range(5)]
    assert default_splits(names, ones, 3) == default_splits(names, ones, 3, {}, {name: name for name in names})


def test_shares_are_of_patients() -> None:
    names = [f"c{n:02d}{visit}" for n in range(20) for visit in "abc"]
    patients = {name: f"{name[:3]}a" for name in names}
    split_of = default_splits(names, ["c00z", "other"], 0, None, {**patients, "c00z": "c00a"})
    assert not torn_patients(split_of, {**patients, "c00z": "c00a"})
    counts = [[split_of[name] for name in names].count(split) for split in ("train", "val", "test")]
    assert counts == [42, 6, 12]
    assert split_of["c00z"] == split_of["c00a"]  # without a label, but never in pretrain beside a test patient
    assert split_of["other"] == "pretrain"


def test_stores_without_patients_go_on(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b", "c", "d", labels=True)
    options = replace(OPTIONS, labels=tmp_path / "labels")
    prepare(folder, tmp_path / "s", options)
    index = tmp_path / "s" / "index.csv"
    rows = list(csv.DictReader(index.open()))
    columns = [name for name in rows[0] if name not in ("patient", "root")]
    with index.open("w", newline="") as file:
        old = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        old.writeheader()
        old.writerows(rows)
    before = Store.open(tmp_path / "s")
    assert before.patients == {name: name for name in "abcd"}
    scans("e", labels=True)
    assert prepare(folder, tmp_path / "s", options)["added"] == 1
    after = Store.open(tmp_path / "s")
    assert {case.id: case.split for case in before.cases()}.items() <= {c.id: c.split for c in after.cases()}.items()
