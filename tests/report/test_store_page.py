"""The page of a store shows every case, duplicates and outliers, and no text of others as markup."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from alice3d.commands.inspect import InspectConfig, run
from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.data.store.inspection import split_leaks
from alice3d.errors import UserError
from alice3d.report.store_page import SIDE, png_of_grey, thumbnail


def scan(folder: Path, name: str, *, seed: int = 0, spacing: float = 3.0) -> None:
    """A box of tissue, brighter at the patient's right."""
    rng = np.random.default_rng(seed)
    image = np.full((20, 22, 24), -1000, np.int16)
    image[3:-3, 3:-3, 2:-2] = rng.integers(0, 40, (14, 16, 20))
    image[10:-3, 3:-3, 2:-2] += 200
    folder.mkdir(exist_ok=True)
    affine = np.diag([spacing, spacing, 3.0, 1.0])
    nib.save(nib.Nifti1Image(image, affine), folder / name)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for number in range(9):
        scan(tmp_path / "scans", f"c{number}.nii", seed=number)
    scan(tmp_path / "scans", "twin.nii.gz", seed=4)
    scan(tmp_path / "scans", "wide.nii", seed=11, spacing=9.0)
    scan(tmp_path / "scans", "<b>.nii", seed=12)
    (tmp_path / "scans" / "cut.nii").write_bytes(b"")
    prepare(tmp_path / "scans", tmp_path / "s", PrepareOptions(spacing_mm=(3.0, 3.0, 3.0), modality="ct"))
    return tmp_path / "s"


def test_page_tells_what_is_odd(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(InspectConfig(store=store))
    page = (store / "inspect.html").read_text(encoding="utf-8")
    assert (result["cases"], result["refused"]) == (12, 1)
    assert result["duplicates"] == [["c4", "twin"]]
    assert {outlier["case"] for outlier in result["unusual"]} == {"wide"}
    assert "spacing along R (mm) is 9, median is 3" in {outlier["what"] for outlier in result["unusual"]}
    assert page.count("data:image/png") == 12
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "empty file" in page
    assert str(store.parent) not in page
    assert "Duplicate scans: c4, twin" in capsys.readouterr().out


def test_few_pictures_of_many_cases(store: Path) -> None:
    run(InspectConfig(store=store, page=store.parent / "few.html", thumbnails=3))
    assert (store.parent / "few.html").read_text().count("data:image/png") == 3


def test_right_is_at_the_left_of_the_picture(store: Path) -> None:
    opened = Store.open(store)
    strip = thumbnail(opened, opened.case("c0"))
    assert strip.shape == (SIDE, 3 * SIDE)
    coronal = strip[:, SIDE : 2 * SIDE].astype(float)
    assert coronal[:, : SIDE // 2].mean() > 1.2 * coronal[:, SIDE // 2 :].mean()


def test_the_same_scan_in_two_splits_is_a_leak(store: Path, tmp_path: Path) -> None:
    splits = tmp_path / "splits.json"
    splits.write_text('{"train": ["c4"], "test": ["twin"]}')
    prepare(tmp_path / "scans", store, PrepareOptions(splits=splits))
    assert split_leaks(Store.open(store)) == [["c4", "twin"]]
    run(InspectConfig(store=store))
    assert "a leak between splits" in (store / "inspect.html").read_text()


def test_png_holds_the_pixels() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    png = png_of_grey(image)
    data = zlib.decompress(png[png.index(b"IDAT") + 4 : -16])
    assert [data[row * 5 + 1 : row * 5 + 5] for row in range(3)] == [bytes(line) for line in image]


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        run(InspectConfig(store=tmp_path / "none"))
