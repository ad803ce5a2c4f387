"""A store keeps voxels to the bit, notices damage, and can be read by many at once."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Case, Store, StoreSpec
from alice3d.data.store.arrays import open_array, write_array
from alice3d.data.store.index import COLUMNS, INDEX, appending, read_index, read_rows
from alice3d.data.store.spec import write_spec
from alice3d.data.store.writer import MANIFEST, fold, verify
from alice3d.errors import UserError, WorkFailed
from alice3d.geometry import Grid, diagonal_affine
from alice3d.io.folders import clean
from alice3d.io.volume import voxels_checksum
from alice3d.locks import locked

AFFINE = diagonal_affine((2.0, 2.0, 3.0), np.array([-10.5, 3.25, 100.0]))


def make_store(folder: Path, names: tuple[str, ...] = ("a", "b")) -> Store:
    """A store with arrays of random numbers; the first case is labelled."""
    write_spec(
        folder, StoreSpec(spacing_mm=(2, 2, 3), modality="ct", intensity=IntensityRule(), label_names={1: "liver"})
    )
    for number, name in enumerate(names):
        image = np.random.default_rng(number).integers(-1000, 1000, (70, 40, 5)).astype(np.int16)
        label = (image > 900).astype(np.uint8)
        case = Case(
            id=name,
            split="train" if number == 0 else "",
            shape=(70, 40, 5),
            grid=Grid((70, 40, 5), AFFINE),
            stats={"mean": 0.1 + number, "std": 1 / 3, "p005": -1.0, "p995": 1.0, "min": -1000.0, "max": 999.0},
            body_box_mm=((-11.5, 2.25, 98.5), (128.5, 82.25, 113.5)),
            checksum=voxels_checksum(image, AFFINE),
            content=voxels_checksum(image),
            source=f"{name}.nii.gz",
            labelled=number == 0,
            structures=(1, 3) if number == 0 else (),
            label_checksum=voxels_checksum(label) if number == 0 else "",
        )
        row = case.to_row()
        row["image_sha256"] = write_array(folder / "images" / f"{name}.b2nd", image, AFFINE)
        if number == 0:
            row["label_sha256"] = write_array(folder / "labels" / f"{name}.b2nd", label, AFFINE)
        with appending(folder / INDEX) as append:
            append(row)
    fold(folder)
    return Store.open(folder)


def first_voxel(store: Store) -> int:
    return int(store.image("a")[0, 0, 0])


def test_what_was_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", ("a", "naïve ümlaut"))
    for number, name in enumerate(("a", "naïve ümlaut")):
        image = np.random.default_rng(number).integers(-1000, 1000, (70, 40, 5)).astype(np.int16)
        np.testing.assert_array_equal(store.image(name)[:], image)
        np.testing.assert_array_equal(store.image(name)[60:70, 3:9, 1:4], image[60:70, 3:9, 1:4])
        case = store.case(name)
        np.testing.assert_array_equal(case.grid.affine, AFFINE)
        assert case.stats["std"] == 1 / 3
        assert case.spacing_mm == (2, 2, 3)
        assert case.checksum == voxels_checksum(store.image(name)[:], case.grid.affine)
    assert store.label("a")[:].max() == 1
    assert store.image("a").chunks == (64, 40, 5)
    assert store.label_names == {1: "liver", 3: "label_3"}
    assert [case.id for case in store.cases("train")] == ["a"]
    assert store.splits == ["train"]


def test_large_arrays_are_packed_harder_and_read_back_to_the_bit(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 900, (144, 128, 128))
    volume = ndimage.gaussian_filter(noise, 1.5).astype(np.int16)
    for name, array in (("large", volume), ("half", volume[:72])):
        write_array(tmp_path / f"{name}.b2nd", array, np.eye(4))
        assert np.array_equal(open_array(tmp_path / f"{name}.b2nd")[:, :, :], array)
    assert (tmp_path / "large.b2nd").stat().st_size < 1.95 * (tmp_path / "half.b2nd").stat().st_size


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        Store.open(tmp_path / "none")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="no store there"):
        Store.open(tmp_path / "other")
    store = make_store(tmp_path / "s", ("patient_one", "patient_two"))
    with pytest.raises(UserError, match="did you mean 'patient_one'"):
        store.case("patient_ona")
    with pytest.raises(UserError, match="has no label"):
        store.label("patient_two")


def test_unknown_format_version_is_told(tmp_path: Path) -> None:
    make_store(tmp_path)
    spec = json.loads((tmp_path / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps({**spec, "version": 99}))
    with pytest.raises(UserError, match="format version 99"):
        Store.open(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Store.open(tmp_path)


def test_checksum_changes_with_content_and_not_with_place(tmp_path: Path) -> None:
    one, same = make_store(tmp_path / "1"), make_store(tmp_path / "2")
    more = make_store(tmp_path / "3", ("a", "b", "c"))
    assert one.checksum == same.checksum != more.checksum


def test_verify_finds_flipped_bits_and_missing_files(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    rows = read_index(tmp_path)
    assert verify(tmp_path, rows) == []
    assert len((tmp_path / MANIFEST).read_text().splitlines()) == 5
    image = tmp_path / "images" / "a.b2nd"
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    (tmp_path / "labels" / "a.b2nd").unlink()
    faults = dict(verify(tmp_path, rows))
    assert "checksum differs" in faults["images/a.b2nd"]
    assert faults["labels/a.b2nd"] == "is missing"
    with pytest.raises(WorkFailed, match="is missing"):
        store.label("a")


def test_a_torn_last_line_is_ignored_and_mended(tmp_path: Path) -> None:
    make_store(tmp_path)
    index = tmp_path / INDEX
    whole = index.read_bytes()
    index.write_bytes(whole + b"c,train,tak")
    assert [row["id"] for row in read_rows(index)] == ["a", "b"]
    with appending(index) as append:
        append({"id": "d", "status": "refused", "source": "d.nii", "reason": "constant voxels: all are 0"})
    assert [row["id"] for row in read_rows(index)] == ["a", "b", "d"]
    index.write_bytes(b"id,spl")
    with appending(index) as append:
        append({"id": "d", "status": "refused", "source": "d.nii"})
    assert [row["id"] for row in read_rows(index)] == ["d"]


def test_parts_of_shards_are_read_and_merged(tmp_path: Path) -> None:
    make_store(tmp_path, ("a", "b"))
    rows = read_rows(tmp_path / INDEX)
    for part, row in enumerate(rows, start=1):
        with appending(tmp_path / f"index.{part:05d}-of-00002.csv") as append:
            append(row)
    (tmp_path / INDEX).unlink()
    assert [case.id for case in Store.open(tmp_path).cases()] == ["a", "b"]
    fold(tmp_path)
    assert not list(tmp_path.glob("index.*-of-*"))
    assert [case.id for case in Store.open(tmp_path).cases()] == ["a", "b"]


def test_damaged_index_is_a_user_error(tmp_path: Path) -> None:
    make_store(tmp_path)
    text = (tmp_path / INDEX).read_text()
    (tmp_path / INDEX).write_text(text.replace("70 40 5", "70 forty 5"))
    with pytest.raises(UserError, match="damaged"):
        Store.open(tmp_path)
    (tmp_path / INDEX).write_text("id,other\n1,2\n")
    with pytest.raises(UserError, match="no column"):
        Store.open(tmp_path)


def test_arrays_without_a_row_are_swept_by_the_next_writer(tmp_path: Path) -> None:
    make_store(tmp_path)
    write_array(tmp_path / "images" / "orphan.b2nd", np.zeros((4, 4, 4), np.int16), AFFINE)
    fold(tmp_path)
    assert not (tmp_path / "images" / "orphan.b2nd").exists()


def test_one_writer_at_a_time_and_shards_side_by_side(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UserError, match="another run is writing to it: alice"), locked(tmp_path):
        pass
    with locked(tmp_path, (1, 2)), locked(tmp_path, (2, 2)):
        with pytest.raises(UserError, match="another run is writing to it: alice"), locked(tmp_path, (1, 2)):
            pass
        with pytest.raises(UserError, match="another run is writing to it: alice"), locked(tmp_path):
            pass
    with locked(tmp_path):
        pass


def test_store_travels_to_other_processes(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    here = first_voxel(store)
    assert first_voxel(pickle.loads(pickle.dumps(store))) == here
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        assert set(pool.map(first_voxel, [store] * 4)) == {here}


def test_names_become_one_printable_line() -> None:
    assert clean("a\nb\x1b") == "a\\nb\\x1b"
    assert clean("é x") == "é x"
    assert clean(b"bad\xff".decode("utf-8", "surrogateescape")).isprintable()
    assert len(set(COLUMNS)) == len(COLUMNS)
