"""Reading a case of a store on its own grid and on others, in the numbers of a rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.store import Store
from alice3d.data.store.read_grid import read_case, read_grid
from alice3d.errors import UserError
from alice3d.geometry import Grid, centred_grid


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
