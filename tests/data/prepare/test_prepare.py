"""prepare takes what is good, refuses the rest with a reason, goes on where it stopped, and invents nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scan_files import affine_of, head_like, patch, write_nifti

from alice3d.commands.prepare import PrepareConfig, run
from alice3d.data.prepare import PrepareOptions, case, prepare
from alice3d.data.prepare import case as case_work
from alice3d.data.store import Store
from alice3d.errors import UserError, WorkFailed

Scans = Callable[..., Path]
OPTIONS = PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct")


def reason_of(store: Path, name: str) -> str:
    return next(reason for case, _, reason in Store.open(store).refused if case == name)


def test_a_folder_becomes_a_store(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b", "c", labels=True, axes="PLI")
    result = prepare(folder, tmp_path / "s", replace(OPTIONS, labels=tmp_path / "labels", label_names={1: "sphere"}))
    assert result == {"taken": 3, "refused": 0, "reasons": {}, "store": str(tmp_path / "s"), "added": 3}
    store = Store.open(tmp_path / "s")
    assert store.spec.modality == "ct"
    assert store.label_names == {1: "sphere"}
    assert sorted(store.splits) == ["test", "train"]
    case = store.case("a")
    image, label = store.image("a")[:], store.label("a")[:]
    assert image.dtype == np.int16
    assert image.shape == label.shape == case.shape
    assert case.labelled
    assert case.structures == (1,)
    assert case.source == "a.nii.gz"
    assert label[image > 700].mean() > 0.9
    assert image[label > 0].mean() > 600
    assert case.stats["min"] < -900 < 800 < case.stats["max"]


def test_auto_spacing_is_the_median_and_modality_is_told_by_values(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b")
    write_nifti(folder / "c.nii", head_like(), affine_of((9, 9, 9)))
    prepare(folder, tmp_path / "s")
    spec = Store.open(tmp_path / "s").spec
    assert spec.spacing_mm == (2.0, 2.0, 2.5)
    assert spec.modality == "ct"
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        write_nifti(tmp_path / "mr" / f"{name}.nii", rng.gamma(2, 80, (12, 12, 12)).astype(np.float32))
    prepare(tmp_path / "mr", tmp_path / "m")
    store = Store.open(tmp_path / "m")
    assert store.spec.modality == "mr"
    assert store.image("a").dtype == np.float32
    assert "no body found" in store.case("a").notes


def test_bad_scans_are_rows_with_reasons_and_the_rest_is_done(scans: Scans, tmp_path: Path) -> None:
    folder = scans("good", "cut", "zero", "twice", "label_off", "label_odd", labels=True)
    (folder / "cut.nii.gz").write_bytes((folder / "cut.nii.gz").read_bytes()[:3000])
    patch(folder / "zero.nii.gz", "pixdim", b"\0\0\0\0", 1, 4)
    write_nifti(folder / "more" / "twice.nii", head_like())
    write_nifti(folder / "4d.nii", np.zeros((4, 4, 4, 2), np.int16))
    write_nifti(tmp_path / "labels" / "label_off.nii.gz", np.ones((24, 26, 21), np.uint8))
    write_nifti(tmp_path / "labels" / "label_odd.nii.gz", (head_like() > 500).astype(np.uint8) * 9)
    options = replace(OPTIONS, labels=tmp_path / "labels", label_names={1: "sphere"})
    result = prepare(folder, tmp_path / "s", options)
    assert result["taken"] == 1
    assert result["refused"] == 7
    assert result["reasons"]["duplicate case name"] == 2
    assert result["reasons"]["label on another grid"] == result["reasons"]["truncated or damaged gzip"] == 1
    assert "pixdim[1] is 0 mm" in reason_of(tmp_path / "s", "zero")
    assert "more/twice.nii" in reason_of(tmp_path / "s", "twice") or "twice.nii.gz" in reason_of(
        tmp_path / "s", "twice"
    )
    assert "624 of its voxels lie outside its scan" in reason_of(tmp_path / "s", "label_off")
    assert "declared classes: 9" in reason_of(tmp_path / "s", "label_odd")
    assert {path.stem for path in (tmp_path / "s" / "images").iterdir()} == {"good"}


def test_no_scan_taken_is_an_error(tmp_path: Path) -> None:
    write_nifti(tmp_path / "scans" / "a.nii", np.zeros((5, 5, 5), np.int16))
    with pytest.raises(UserError, match="constant voxels: all are 0"):
        prepare(tmp_path / "scans", tmp_path / "s", OPTIONS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no scans found"):
        prepare(tmp_path / "empty", tmp_path / "s2", OPTIONS)
    with pytest.raises(UserError, match="no such file or folder"):
        prepare(tmp_path / "nowhere", tmp_path / "s2", OPTIONS)
    with pytest.raises(UserError, match="no such folder of labels"):
        prepare(tmp_path / "scans", tmp_path / "s2", replace(OPTIONS, labels=tmp_path / "nowhere"))
    assert not (tmp_path / "s2").exists()


def test_the_same_call_again_is_done_and_new_scans_are_added(
    scans: Scans, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scans("a", "b")
    prepare(folder, tmp_path / "s")
    before = (tmp_path / "s" / "index.csv").read_bytes(), Store.open(tmp_path / "s").checksum
    with monkeypatch.context() as patched:
        patched.setattr(case_work, "read_voxels", lambda _: pytest.fail("read again"))
        assert prepare(folder, tmp_path / "s")["added"] == 0
    assert "already done" in capsys.readouterr().out
    assert ((tmp_path / "s" / "index.csv").read_bytes(), Store.open(tmp_path / "s").checksum) == before
    write_nifti(folder / "c.nii", head_like(seed=9), affine_of((9, 9, 9)))
    result = prepare(folder, tmp_path / "s")
    assert (result["taken"], result["added"]) == (3, 1)
    assert Store.open(tmp_path / "s").case("c").spacing_mm == (2.0, 2.0, 2.5)
    write_nifti(folder / "c.nii", head_like(seed=10), affine_of((9, 9, 9)))
    os.utime(folder / "c.nii", ns=(1, 1))
    assert prepare(folder, tmp_path / "s")["added"] == 1


def test_other_settings_need_overwrite(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b")
    prepare(folder, tmp_path / "s", OPTIONS)
    for options, words in (
        (replace(OPTIONS, spacing_mm=(4.0, 4.0, 4.0)), "spacing_mm 3,3,3, this call has 4,4,4"),
        (replace(OPTIONS, modality="mr"), "modality ct, this call has mr"),
        (replace(OPTIONS, crop="none"), "crop body"),
        (replace(OPTIONS, label_names={1: "x"}), "label_names"),
    ):
        with pytest.raises(UserError, match=words):
            prepare(folder, tmp_path / "s", options)
    result = prepare(folder, tmp_path / "s", replace(OPTIONS, spacing_mm=(4.0, 4.0, 4.0), overwrite=True))
    assert result["added"] == 2
    assert Store.open(tmp_path / "s").spec.spacing_mm == (4, 4, 4)


def test_a_folder_with_something_else_is_left_alone(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        prepare(folder, tmp_path / "s", OPTIONS)
    prepare(folder, tmp_path / "s", replace(OPTIONS, overwrite=True))
    assert (tmp_path / "s" / "thesis.txt").read_text() == "mine"
    with pytest.raises(UserError, match="is a file"):
        prepare(folder, tmp_path / "s" / "thesis.txt", OPTIONS)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (lambda a: a + 1024, "lack their intercept"),
        (lambda a: a.astype(np.uint16), "stored as unsigned"),
        (lambda a: np.abs(a), "an MR scan, or a CT that was rescaled"),
        (lambda a: (a + 1000) / 1000 - 1, "look like MR"),
    ],
)
def test_numbers_that_are_not_hounsfield_units_are_refused(
    scans: Scans, tmp_path: Path, values: Any, words: str
) -> None:
    folder = scans("a", "b", "c")
    image = values(head_like())
    write_nifti(folder / "odd.nii", image.astype(np.float32 if image.dtype.kind == "f" else image.dtype))
    prepare(folder, tmp_path / "s")
    assert words in reason_of(tmp_path / "s", "odd")
    assert reason_of(tmp_path / "s", "odd").startswith("not in HU")


def test_two_jobs_give_the_same_store_as_one(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b", "c", labels=True)
    options = replace(OPTIONS, labels=tmp_path / "labels")
    prepare(folder, tmp_path / "one", options)
    prepare(folder, tmp_path / "two", replace(options, jobs=2))
    for name in ("index.csv", "SHA256SUMS", "splits.json", "store.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_disk_full_stops_with_a_clear_line_and_a_whole_store(
    scans: Scans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scans("a", "b", "c")
    real, calls = case.write_array, []

    def full(path: Path, *rest: Any) -> str:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(case_work, "write_array", full)
        with pytest.raises(WorkFailed, match="disk full"):
            prepare(folder, tmp_path / "s", OPTIONS)
    assert [case.id for case in Store.open(tmp_path / "s").cases()] == ["a"]
    assert prepare(folder, tmp_path / "s", OPTIONS)["added"] == 2


def test_an_unexpected_error_refuses_one_scan_and_shows_no_text(
    scans: Scans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = scans("a", "b")
    real = case.check_voxels

    def odd(array: Any, name: str) -> None:
        if name.startswith("b"):
            raise RuntimeError("patient DOE^JOHN")
        real(array, name)

    monkeypatch.setattr(case_work, "check_voxels", odd)
    prepare(folder, tmp_path / "s", OPTIONS)
    assert reason_of(tmp_path / "s", "b") == "unexpected RuntimeError while it was prepared"


def test_killed_midway_goes_on(scans: Scans, tmp_path: Path) -> None:
    folder = scans(*(f"c{i:02d}" for i in range(30)), labels=True)
    code = (
        "from pathlib import Path; from alice3d.data.prepare.prepare import *; import sys; "
        "prepare(Path(sys.argv[1]), Path(sys.argv[2]), PrepareOptions(spacing_mm=(1.0,) * 3, modality='ct'))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(folder), str(tmp_path / "s")], stdout=subprocess.DEVNULL)
    index = tmp_path / "s" / "index.csv"
    while child.poll() is None and (not index.exists() or index.read_text().count("\n") < 4):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = len(Store.open(tmp_path / "s").cases())
    options = PrepareOptions(spacing_mm=(1.0, 1.0, 1.0), modality="ct")
    result = prepare(folder, tmp_path / "s", options)
    assert result["taken"] == 30
    assert result["added"] == 30 - done
    prepare(folder, tmp_path / "whole", options)
    assert Store.open(tmp_path / "s").checksum == Store.open(tmp_path / "whole").checksum
    assert not list((tmp_path / "s").glob("*/.unfinished*"))


def test_command_takes_words_and_writes_the_store(scans: Scans, tmp_path: Path) -> None:
    values = {"scans": str(scans("a")), "store": str(tmp_path / "s"), "spacing": "3,3,4", "label_names": "1=x"}
    result = run(PrepareConfig.checked(values, "alice prepare"))
    assert result["taken"] == 1
    assert Store.open(tmp_path / "s").spec.spacing_mm == (3, 3, 4)
    for spacing in ("0", "1,2", "x", "-1", "nan"):
        with pytest.raises(UserError, match="alice prepare: spacing"):
            PrepareConfig.checked({**values, "spacing": spacing}, "alice prepare")


def test_dry_run_writes_nothing(scans: Scans, tmp_path: Path) -> None:
    folder = scans("a", "b")
    write_nifti(folder / "c.nii", np.zeros((4, 4), np.int16))
    result = prepare(folder, tmp_path / "s", replace(OPTIONS, dry_run=True))
    assert (result["taken"], result["refused"]) == (2, 1)
    assert not (tmp_path / "s").exists()
