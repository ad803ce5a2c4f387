"""The pairs table on disk: parts, merging, checks, correspondences."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import pickle
import zipfile

import numpy as np
import pytest

from alice3d.data.pairs import PairRows, PairsTable
from alice3d.data.pairs.table import read_part, write_part, write_table
from alice3d.errors import UserError

SCAN_PAIRS = [("a", "b"), ("c", "a"), ("b", "c")]


def rows(seed: int, count: int = 80, accepted: float = 0.9) -> PairRows:
    rng = np.random.default_rng(seed)
    query = rng.uniform(-80, 80, (count, 3)).astype(np.float32)
    return PairRows(
        query_mm=query,
        key_mm=query * np.float32(1.1) + np.float32(seed),
        similarity=rng.random(count).astype(np.float32),
        cycle_mm=rng.random(count).astype(np.float32),
        fit_mm=rng.random(count).astype(np.float32),
        far_10mm=rng.random(count).astype(np.float32),
        accepted=rng.random(count) < accepted,
    )


@pytest.fixture
def folder(tmp_path):
    parts = []
    for n in range(3):
        parts.append(tmp_path / "parts" / f"{n:06d}.npz")
        write_part(parts[-1], rows(n, 80 + n, accepted=0.9 if n != 1 else 0.05))
    write_table(tmp_path, SCAN_PAIRS, parts, {"store": "s", "matcher": "m"})
    return tmp_path


def test_rows_come_back_as_written(folder):
    table = PairsTable.open(folder)
    assert len(table) == 80 + 81 + 82
    for n, (query, key) in enumerate(SCAN_PAIRS):
        written, read = rows(n, 80 + n, accepted=0.9 if n != 1 else 0.05), table.rows(query, key)
        for name in PairRows.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert table.card["rows"] == len(table)
    assert table.card["usable"] == 2


def test_pairs_with_few_accepted_rows_are_not_listed(folder):
    table = PairsTable.open(folder)
    assert table.scan_pairs() == [("a", "b"), ("b", "c")]
    assert table.scan_pairs(usable=False) == SCAN_PAIRS
    with pytest.raises(UserError, match="accepted rows for query 'c' and key 'a'"):
        table.correspondence("c", "a")


def test_correspondence_both_ways(folder):
    table = PairsTable.open(folder)
    points = np.array([[0.0, 10.0, -20.0], [30.0, -30.0, 5.0]])
    there = table.correspondence("b", "c").map(points)
    np.testing.assert_allclose(there, points * 1.1 + 2, atol=0.3)
    np.testing.assert_allclose(table.correspondence("c", "b").map(there), points, atol=0.3)
    assert table.correspondence("b", "c") is table.correspondence("b", "c")


def test_equal_tables_are_equal_files_and_travel_to_workers(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    parts = sorted((folder / "parts").glob("*.npz"))
    write_table(other, SCAN_PAIRS, parts, {"store": "s", "matcher": "m"})
    assert (other / "pairs.npz").read_bytes() == (folder / "pairs.npz").read_bytes()
    table = pickle.loads(pickle.dumps(PairsTable.open(folder)))
    assert table.scan_pairs() == [("a", "b"), ("b", "c")]


def test_numpy_alone_reads_the_table(folder):
    with np.load(folder / "pairs.npz", allow_pickle=False) as file:
        assert list(file["cases"]) == ["a", "b", "c"]
        assert file["first_row"].tolist() == [0, 80, 161, 243]
        assert file["query_mm"].shape == (243, 3)


def test_csv_has_a_row_a_point(folder, tmp_path):
    PairsTable.open(folder).write_csv(tmp_path / "pairs.csv.gz")
    with gzip.open(tmp_path / "pairs.csv.gz", "rt") as stream:
        read = list(csv.DictReader(stream))
    assert len(read) == 243
    assert float(read[0]["query_x_mm"]) == pytest.approx(rows(0).query_mm[0, 0], rel=1e-3)


def test_damage_is_told(folder, tmp_path):
    with pytest.raises(UserError, match="no pairs table"):
        PairsTable.open(tmp_path / "nowhere")
    card = json.loads((folder / "pairs.json").read_text())
    (folder / "pairs.json").write_text(json.dumps({**card, "checksum": "0"}))
    with pytest.raises(UserError, match="differs from the checksum"):
        PairsTable.open(folder)
    (folder / "pairs.json").write_text(json.dumps({**card, "format_version": 9}))
    with pytest.raises(UserError, match="format_version 9"):
        PairsTable.open(folder)
    (folder / "pairs.json").write_text(json.dumps(card))
    raw = (folder / "pairs.npz").read_bytes()
    (folder / "pairs.npz").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(UserError, match="not a readable pairs table"):
        PairsTable.open(folder)


def test_a_damaged_part_is_made_again_not_trusted(tmp_path):
    path = tmp_path / "part.npz"
    assert read_part(path) is None
    write_part(path, rows(0))
    raw = path.read_bytes()
    path.write_bytes(raw[:-40])
    assert read_part(path) is None


def test_a_table_of_an_earlier_version_opens_without_what_it_lacked(folder):
    digest, members = hashlib.sha256(), {}
    with zipfile.ZipFile(folder / "pairs.npz") as file:
        for name in file.namelist():
            if name != "far_10mm.npy":
                members[name] = file.read(name)
                digest.update(members[name])
    with zipfile.ZipFile(folder / "pairs.npz", "w") as file:
        for name, raw in members.items():
            file.writestr(name, raw)
    card = json.loads((folder / "pairs.json").read_text())
    (folder / "pairs.json").write_text(json.dumps({**card, "checksum": digest.hexdigest()}))
    table = PairsTable.open(folder)
    rows = table.rows(*SCAN_PAIRS[0])
    assert np.isnan(rows.far_10mm).all()
    assert len(rows.far_10mm) == len(rows)
