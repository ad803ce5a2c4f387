"""Reading a case of a store on its own grid and on others, in the numbers of a rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scan_files import affine_of, head_like, write_nifti

from alice3d.commands.prepare import PrepareConfig, run
from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.preprocessing.preprocess import prepare_array
from alice3d.data.store import Case, Store
from alice3d.data.store.read_grid import read_case, read_grid
from alice3d.errors import UserError
from alice3d.geometry import Grid, centred_grid, ras_grid
from alice3d.io.read import read_scan


@pytest.fixture(scope="module")
def store(tiny_store: Path) -> Store:
    return Store.open(tiny_store)


def test_a_crop_of_the_store_equals_the_case_cut(store: Store) -> None:
    case, rule = store.cases()[0], IntensityRule()
    whole, grid = read_case(store, case, rule)
    part = grid.crop(np.array([3, 4, 5]), np.array([13, 12, 16]))
    np.testing.assert_allclose(read_grid(store, case, part, rule), whole[:, 3:13, 4:12, 5:16], atol=1e-4)
    far = centred_grid(np.array([9000.0, 0, 0]), (4, 4, 4), 8 * np.eye(3))
    assert (read_grid(store, case, far, rule) == -1).all()  # air
    outside = Grid((4, 4, 4), grid.crop(np.array([-2, 0, 0]), np.array([2, 4, 4])).affine)
    assert (read_grid(store, case, outside, rule)[:, 0] == -1).all()


def test_a_rule_of_another_modality_is_refused(store):
    case = store.cases()[0]
    with pytest.raises(UserError, match="holds CT scans; the model or matcher reads MR"):
        read_case(store, case, IntensityRule(modality="mr"))


RULE = IntensityRule(windows=((-2000.0, 2000.0),))
"""A window of 4000 HU on -1 .. 1: one HU is 1/2000."""


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one scan at 1 mm: an ellipsoid in air, noise of SD 100 HU, not in whole HU."""
    folder = tmp_path_factory.mktemp("noisy") / "scans"
    shape = (40, 44, 50)
    noise = np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)
    write_nifti(folder / "a.nii", np.maximum(head_like(shape) + noise, -1024), affine_of((1.0, 1.0, 1.0)))
    return folder


def stored(scans: Path, spacing: str) -> tuple[Store, Case]:
    path = scans.parent / spacing.replace(",", "x")
    run(PrepareConfig(scans=scans, store=path, spacing=spacing, modality="ct", overwrite=True))
    store = Store.open(path)
    return store, store.cases()[0]


class Held:
    """One array in memory, read like a store."""

    def __init__(self, array: NDArray[np.float32]) -> None:
        self.array = array

    def image(self, id: str) -> NDArray[np.float32]:
        return self.array


def held_noise(array: NDArray[np.float32]) -> tuple[Held, Case]:
    """A CT at 1 mm in memory, and its case."""
    x, y, z = array.shape
    grid = Grid((x, y, z), np.eye(4))
    whole = ((0.0, 0.0, 0.0), (float(x), float(y), float(z)))
    case = Case(
        id="a",
        split="",
        shape=(x, y, z),
        grid=grid,
        body_box_mm=whole,
        stats={},
        checksum="",
        content="",
        source="",
        labelled=False,
        structures=(),
    )
    return Held(array), case


def test_each_stored_axis_is_low_passed_for_the_spacing_along_it() -> None:
    """White noise of SD 100 at 1 mm: at 5 mm along one axis, SD 36.6 remains, whichever axis of the grid it is."""
    noise = np.random.default_rng(1).normal(0, 100, (40, 40, 200)).astype(np.float32)
    held, case = held_noise(noise)
    sharp, thick = np.diag([1.0, 1.0, 1.0]), np.diag([1.0, 1.0, 5.0])
    for matrix, shape, expected in (
        (sharp, (30, 30, 30), 100),
        (thick, (30, 30, 30), 36.6),
        (thick[:, [2, 0, 1]], (30, 30, 30), 36.6),
        (thick * [-1, 1, -1], (30, 30, 30), 36.6),
        (5 * np.eye(3), (5, 5, 30), 36.6 * 0.366**2),
    ):
        values = read_grid(held, case, centred_grid(case.grid.centre_mm, shape, matrix), RULE)
        assert values.std() * 2000 == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("factor", [1.3, 2.0, 5.0, 9.0])
def test_the_box_that_is_read_covers_the_low_pass(factor: float) -> None:
    """A part of a grid equals the same part of the whole grid."""
    held, case = held_noise(np.random.default_rng(2).normal(0, 100, (30, 30, 120)).astype(np.float32))
    grid = ras_grid(case.shape, case.grid.affine, (1.0, 1.2, factor))
    whole = read_grid(held, case, grid, RULE)
    start, stop = np.array([10, 8, 4]), np.array([14, 13, 9])
    part = read_grid(held, case, grid.crop(start, stop), RULE)
    np.testing.assert_allclose(part, whole[:, 10:14, 8:13, 4:9], atol=1e-6)


def test_a_store_at_the_models_spacing_gives_the_image_of_the_file(noisy: Path) -> None:
    """`evaluate` and training read the store, `predict` the file: they see the same array, to the bit."""
    store, case = stored(noisy, "1,1,5")
    volume = read_scan(noisy / "a.nii")
    prepared = prepare_array(volume, spacing_mm=(1.0, 1.0, 5.0), modality="ct")
    of_file = RULE(prepared.image, prepared.stats)
    evaluated, grid = read_case(store, case, RULE, (1.0, 1.0, 5.0))
    np.testing.assert_array_equal(grid.affine, prepared.grid.affine)
    np.testing.assert_array_equal(evaluated, of_file)
    np.testing.assert_array_equal(read_grid(store, case, prepared.grid, RULE), of_file)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 5.0), (2.0, 1.0, 1.0), (3.0, 3.0, 3.0)])
def test_a_finer_store_gives_the_image_of_the_file(noisy: Path, spacing: tuple[float, float, float]) -> None:
    """Read at the voxels of the file's preprocessing. A file is read to the outer faces of its voxels, a store to their
    centres, so the outermost voxels are left out; float32 instead of float64 in between: 1e-5."""
    store, case = stored(noisy, "1")
    prepared = prepare_array(read_scan(noisy / "a.nii"), spacing_mm=spacing, modality="ct", crop="none")
    of_file = RULE(prepared.image, prepared.stats)
    of_store = read_grid(store, case, prepared.grid, RULE)
    inner = case.grid.contains(prepared.grid.world(np.indices(prepared.grid.shape).reshape(3, -1).T), -10.0)
    inner = inner.reshape(prepared.grid.shape)
    assert inner.sum() > 300
    np.testing.assert_allclose(of_store[:, inner], of_file[:, inner], atol=1e-5)
