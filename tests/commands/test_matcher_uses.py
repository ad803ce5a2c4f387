"""landmarks, propagate and view by command, and a matcher that saw the test scans: results, restart, refusals."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from calling import call, result

from alice3d.data.store import Store


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def folder(tiny_scans, tmp_path) -> Path:
    """Three scans and a damaged one."""
    made = tmp_path / "scans"
    made.mkdir()
    for file in sorted(tiny_scans.images.glob("*.nii.gz"))[:3]:
        shutil.copy(file, made)
    (made / "broken.nii.gz").write_bytes(b"not a scan")
    return made


@pytest.fixture
def example(folder, tiny_scans, tmp_path) -> Path:
    """All landmarks of the first of them."""
    first = sorted(path.name.removesuffix(".nii.gz") for path in folder.glob("*.nii.gz"))[1]
    rows = [row for row in table(tiny_scans.landmarks) if row["case"] == first][:3]
    path = tmp_path / "example.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ("case", "structure", "x_mm", "y_mm", "z_mm"), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_landmarks_of_many_scans_from_one_example(capsys, folder, example, tiny_matcher, tiny_scans, tmp_path):
    words = ("landmarks", tiny_matcher, folder, tmp_path / "out", "--landmarks", example)
    found = result(capsys, *words)
    assert (found["scans"], found["points"]) == (3, 9)
    assert [row["case"] for row in found["refused"]] == ["broken"]
    rows = table(tmp_path / "out" / "landmarks.csv")
    columns = ["case", "structure", "x_mm", "y_mm", "z_mm", "similarity", "cycle_mm", "accepted"]
    assert list(rows[0]) == columns
    given = {row["structure"]: row for row in table(example)}
    own = [row for row in rows if row["case"] == table(example)[0]["case"]]
    for row in own:  # the example stands as it was given
        assert float(row["x_mm"]) == pytest.approx(float(given[row["structure"]]["x_mm"]), abs=0.01)
        assert (row["accepted"], float(row["cycle_mm"])) == ("1", 0)
    assert table(tmp_path / "out" / "refused.csv")[0]["case"] == "broken"
    # The table is itself a landmark file, and a later scan is added to it.
    assert "already done" in call(capsys, *words)[1]
    new = sorted(tiny_scans.images.glob("*.nii.gz"))[3]
    shutil.copy(new, folder)
    assert result(capsys, *words)["scans"] == 4
    assert table(tmp_path / "out" / "landmarks.csv")[: len(rows)] == rows


def test_interrupted_landmarks_go_on_to_the_same_table(capsys, folder, example, tiny_matcher, tmp_path, monkeypatch):
    from alice3d.matching import landmarks

    words = ("--landmarks", example)
    result(capsys, "landmarks", tiny_matcher, folder, tmp_path / "whole", *words)
    find, count = landmarks.find_landmarks, []

    def stop_at_the_second(*arguments):
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt
        return find(*arguments)

    monkeypatch.setattr(landmarks, "find_landmarks", stop_at_the_second)
    assert call(capsys, "landmarks", tiny_matcher, folder, tmp_path / "cut", *words)[0] != 0
    with (tmp_path / "cut" / "rows.jsonl").open("a") as file:
        file.write('{"case": "hal')  # as a kill leaves it
    count[:] = [1, 1]
    result(capsys, "landmarks", tiny_matcher, folder, tmp_path / "cut", *words)
    assert len(count) == 3  # the last scan alone was left
    whole, cut = (tmp_path / name / "landmarks.csv" for name in ("whole", "cut"))
    assert cut.read_bytes() == whole.read_bytes()


def test_two_processes_find_and_label_the_same(capsys, folder, example, tiny_matcher, tiny_scans, tiny_store, tmp_path):
    for jobs in (1, 2):
        words = (tiny_matcher, folder, "--jobs", jobs)
        found = result(capsys, "landmarks", *words, tmp_path / f"points-{jobs}", "--landmarks", example)
        assert [row["case"] for row in found["refused"]] == ["broken"]
        atlases = ("--atlases", tiny_store, "--atlas-split", "train", "--count", 1, "--vote", 0.2)
        made = result(capsys, "propagate", *words, tmp_path / f"labels-{jobs}", *atlases)
        assert [row["case"] for row in made["refused"]] == ["broken"]
    one, two = ((tmp_path / f"points-{jobs}/landmarks.csv").read_bytes() for jobs in (1, 2))
    assert one == two
    for name in made["written"]:
        one, two = (nib.load(tmp_path / f"labels-{jobs}" / name).get_fdata() for jobs in (1, 2))
        np.testing.assert_array_equal(one, two)
    # Other jobs are no other settings.
    assert "already done" in call(capsys, "landmarks", *words, tmp_path / "points-1", "--landmarks", example)[1]


def test_landmarks_of_a_store_agree_with_those_of_files(capsys, tiny_store, tiny_scans, tiny_matcher, tmp_path):
    cases = Store.open(tiny_store).cases("test")
    marks = tmp_path / "marks.csv"
    point = np.mean(cases[0].body_box_mm, axis=0)
    marks.write_text(f"case,structure,x_mm,y_mm,z_mm\n{cases[0].id},middle,{','.join(map(str, point))}\n")
    words = ("--landmarks", marks)
    stored = result(capsys, "landmarks", tiny_matcher, tiny_store, tmp_path / "a", *words, "--split", "test")
    assert (stored["scans"], stored["by_structure"]["middle"]["found"]) == (2, 2)
    files = [tiny_scans.images / f"{case.id}.nii.gz" for case in cases]
    result(capsys, "landmarks", tiny_matcher, *files, tmp_path / "b", *words)
    for one, other in zip(table(tmp_path / "a/landmarks.csv"), table(tmp_path / "b/landmarks.csv"), strict=True):
        assert [float(one[axis]) for axis in ("x_mm", "y_mm", "z_mm")] == pytest.approx(
            [float(other[axis]) for axis in ("x_mm", "y_mm", "z_mm")], abs=0.2
        )


def test_propagate_writes_label_maps_in_each_scans_grid(capsys, folder, tiny_scans, tiny_matcher, tmp_path):
    words = ("propagate", tiny_matcher, folder, tmp_path / "out", "--vote", 0.2)
    source = sorted(tiny_scans.images.glob("*.nii.gz"))[4:6]
    for name, files in (("atlases", source), ("labels", [tiny_scans.labels / file.name for file in source])):
        (tmp_path / name).mkdir()
        for file in files:
            shutil.copy(file, tmp_path / name)
    words = (*words, "--atlases", tmp_path / "atlases", "--labels", tmp_path / "labels")
    found = result(capsys, *words)
    assert len(found["written"]) == 3
    assert [row["case"] for row in found["refused"]] == ["broken"]
    assert len(found["atlases"]) == 2
    for name in found["written"]:
        made, scan = nib.load(tmp_path / "out" / name), nib.load(folder / name)
        assert made.shape == scan.shape
        np.testing.assert_allclose(made.affine, scan.affine, atol=1e-4)
    assert "already done" in call(capsys, *words)[1]
    lost = tmp_path / "out" / found["written"][0]
    before = lost.read_bytes()
    lost.unlink()
    result(capsys, *words)
    np.testing.assert_array_equal(nib.load(lost).get_fdata(), nib.Nifti1Image.from_bytes(_unzipped(before)).get_fdata())


def _unzipped(content: bytes) -> bytes:
    import gzip

    return gzip.decompress(content)


def test_a_scan_gets_its_own_labels_back(capsys, tiny_store, tiny_scans, tiny_matcher, tmp_path):
    """Even an untrained network matches a scan with itself."""
    case = Store.open(tiny_store).cases("train")[0]
    scan, label = (folder / f"{case.id}.nii.gz" for folder in (tiny_scans.images, tiny_scans.labels))
    words = ("propagate", tiny_matcher, scan, tmp_path / "out", "--atlases", scan, "--labels", label, "--vote", 0.5)
    found = result(capsys, *words)
    made, true = (np.asarray(nib.load(file).dataobj) for file in (tmp_path / "out" / found["written"][0], label))
    assert (made == true)[true > 0].mean() > 0.8


def test_propagate_from_a_store_takes_its_split_and_names(capsys, tiny_store, folder, tiny_matcher, tmp_path):
    words = ("--atlases", tiny_store, "--atlas-split", "train", "--count", 1)
    found = result(capsys, "propagate", tiny_matcher, folder, tmp_path / "out", *words)
    train = {case.id for case in Store.open(tiny_store).cases("train")}
    assert len(found["atlases"]) == 1
    assert set(found["atlases"]) <= train
    assert set(found["labels"].values()) == set(Store.open(tiny_store).label_names.values())


def test_faulty_calls_are_named(capsys, folder, example, tiny_store, tiny_matcher, tiny_scans, tmp_path):
    out = tmp_path / "out"
    lps = tmp_path / "lps.csv"
    rows = table(example)
    body = Store.open(tiny_store).case(rows[0]["case"]).body_box_mm
    corner = [side - 20 for side in body[1]]  # inside as it stands, far outside once x and y change sign
    lps.write_text(f"case,structure,x_mm,y_mm,z_mm\n{rows[0]['case']},a,{corner[0] + 900},{corner[1]},{corner[2]}\n")
    landmarks = ("landmarks", tiny_matcher, folder, out)
    propagate = ("propagate", tiny_matcher, folder, out)
    scans = sorted(tiny_scans.images.glob("*.nii.gz"))
    faults = [
        ((*landmarks, "--landmarks", tmp_path / "none.csv"), "not a readable CSV file"),
        ((*landmarks, "--landmarks", lps), "of the points lie outside"),
        ((*landmarks, "--landmarks", example, "--split", "test"), "is not a store"),
        ((*landmarks, "--landmarks", example, "--examples", tmp_path / "none"), "no such file or folder"),
        (("landmarks", tiny_matcher, tmp_path / "none", out, "--landmarks", example), "no such file or folder"),
        ((*propagate, "--atlases", scans[0]), "--labels is needed"),
        ((*propagate, "--atlases", folder, "--labels", tmp_path / "none"), "no such file or folder"),
        ((*propagate, "--atlases", tiny_store, "--labels", folder), "has its own labels"),
        ((*propagate, "--atlases", tiny_store, "--count", 99), "labelled scans"),
        ((*propagate, "--atlases", tiny_store, "--atlas-split", "tset"), "no split 'tset'"),
        ((*propagate, "--atlases", tiny_store, "--vote", 0), "vote"),
        (("propagate", tiny_matcher, folder, folder, "--atlases", tiny_store), "is SCANS itself"),
        (("view", scans[0], "--matcher", tiny_matcher), "with"),
        (("view", scans[0], "--with", tmp_path / "none.nii.gz", "--matcher", tiny_matcher), "no such file"),
        (("view", scans[0], "--wiht", scans[1], "--matcher", tiny_matcher), "did you mean '--with'"),
    ]
    for words, message in faults:
        code, shown, err = call(capsys, *words)
        assert (code, shown) == (2, ""), (words, err)
        assert message in err, err
        assert err.count("\n") <= 2, err
    assert not out.exists()


def test_view_serves_two_files(tiny_scans, tiny_matcher, capsys):
    import threading
    import urllib.request

    from alice3d.commands.view import ViewConfig, serve

    first, second = sorted(tiny_scans.images.glob("*.nii.gz"))[:2]
    config = ViewConfig(query=str(first), with_=str(second), matcher=str(tiny_matcher), spacing=8, threads=1)
    server = serve(config)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with urllib.request.urlopen(f"{server.url}scans", timeout=60) as answer:
            scans = json.load(answer)["scans"]
        assert [scan["title"] for scan in scans] == [path.name.removesuffix(".nii.gz") for path in (first, second)]
    finally:
        server.shutdown()
        server.server_close()


def test_evaluate_matcher_refuses_training_scans(capsys, tiny_store, tiny_matcher, tiny_scans, tmp_path):
    from alice3d.weights.provenance import described

    folder = tmp_path / "matcher"
    shutil.copytree(tiny_matcher, folder)
    card = json.loads((folder / "matcher.json").read_text())
    store = Store.open(tiny_store)

    def evaluate(seen: str, split: str, *more: str) -> tuple[int, str]:
        cases = {"cases": described(store.cases(seen))}  # seen in the training that this one started from
        (folder / "matcher.json").write_text(json.dumps({**card, "start": cases}))
        words = ("--landmarks", tiny_scans.landmarks, "--split", split, "--no-baselines", "--max-pairs", 1)
        code, _, err = call(capsys, "evaluate-matcher", folder, tiny_store, *words, *more)
        return code, err

    code, err = evaluate("test", "test")
    assert code == 2
    assert "scans of the test split were seen in pre-training" in err
    assert "--allow-seen" in err
    assert evaluate("test", "")[0] == 2
    code, err = evaluate("test", "test", "--allow-seen")
    assert code == 0
    assert "scans of the test split were seen" in err
    code, err = evaluate("train", "")
    assert code == 0
    assert "scans of the train split were seen" in err
    assert evaluate("train", "test") == (0, "")
