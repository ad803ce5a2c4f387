"""A run goes on with the cases that it chose, whatever has come into the store since."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alice3d import outputs
from alice3d.data.store import Case, Store, StoreSpec, limited
from alice3d.data.store.index import INDEX, write_rows
from alice3d.data.store.pins import pin, pinned_cases
from alice3d.data.store.spec import write_spec
from alice3d.errors import UserError
from alice3d.geometry import Grid


def case(id: str, **changes: Any) -> Case:
    made = Case(
        id=id,
        split="train",
        shape=(4, 4, 4),
        grid=Grid((4, 4, 4), np.eye(4)),
        stats={"mean": 0.0},
        body_box_mm=((0.0, 0.0, 0.0), (3.0, 3.0, 3.0)),
        checksum=f"voxels of {id}",
        content=id,
        source=f"{id}.nii.gz",
        labelled=False,
        structures=(),
    )
    return replace(made, **changes)


def store_of(folder: Path, *cases: Case) -> Store:
    folder.mkdir(exist_ok=True)
    write_spec(folder, StoreSpec(spacing_mm=(1.0, 1.0, 1.0), modality="ct", intensity={"modality": "ct"}))
    write_rows(folder / INDEX, [one.to_row() for one in cases])
    return Store.open(folder)


SETTINGS = {"steps": 3, "inputs": {"encoder": "abc"}}


def begun(tmp_path: Path, store: Store, cases: list[Case]) -> Path:
    out = tmp_path / "run"
    settings = {**SETTINGS, "inputs": {**SETTINGS["inputs"], "store": store.checksum_of(cases)}}
    outputs.begin(out, "model", settings, state="new", more={"pinned": pin(store, cases)})
    return out


def test_new_scans_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = store_of(tmp_path / "store", case("b"), case("a"), case("other", split="test"))
    out = begun(tmp_path, before, [before.case("b"), before.case("a")])
    after = store_of(tmp_path / "store", *before.cases(), case("aa"), case("c", split="val"))
    found = pinned_cases(after, out, "model", SETTINGS, overwrite=False)
    assert [one.id for one in found] == ["b", "a"]  # in the order of the run
    assert after.checksum_of(found) == before.checksum_of(found)
    assert "2 scans came into" in (said := capsys.readouterr().out)
    assert "left out of it: aa, c" in said
    outputs.begin(out, "model", SETTINGS, state="started", more={"pinned": pin(after, found)})
    pinned_cases(after, out, "model", {"steps": 3, "inputs": {}}, overwrite=False)
    assert "left out of it: aa, c" in capsys.readouterr().out  # whenever it goes on


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (None, "case 'a', from which the run in .*run learns, has left the store"),
        (case("a", checksum="other voxels"), "has changed since"),
        (case("a", label_checksum="other labels"), "has changed since"),
        (case("a", split="test"), "is in another split"),
    ],
)
def test_a_case_that_is_no_longer_what_it_was_stops_the_run(tmp_path: Path, now: Case | None, words: str) -> None:
    before = store_of(tmp_path / "store", case("a"), case("b"))
    out = begun(tmp_path, before, [before.case("a")])
    after = store_of(tmp_path / "store", case("b", checksum="changed, and of no interest"), *([now] if now else []))
    with pytest.raises(UserError, match=words):
        pinned_cases(after, out, "model", SETTINGS, overwrite=False)
    assert pinned_cases(after, out, "model", SETTINGS, overwrite=True) is None


def test_other_settings_or_inputs_choose_anew(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", case("a"))
    out = begun(tmp_path, store, store.cases())
    for kind, settings in (
        ("encoder", SETTINGS),
        ("model", {**SETTINGS, "steps": 4}),
        ("model", {**SETTINGS, "inputs": {"encoder": "another"}}),
    ):
        assert pinned_cases(store, out, kind, settings, overwrite=False) is None
    assert pinned_cases(store, tmp_path / "none", "model", SETTINGS, overwrite=False) is None
    assert pinned_cases(store, out, "model", SETTINGS, overwrite=False) == store.cases()


def test_a_store_opens_with_the_cases_of_a_run_alone(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", case("a"), case("b"))
    with limited(tmp_path / "store", ["a"]):
        assert [one.id for one in Store.open(tmp_path / "store").cases()] == ["a"]
        assert Store.open(tmp_path / "store").checksum == store.checksum_of([store.case("a")])
    assert len(Store.open(tmp_path / "store").cases()) == 2
