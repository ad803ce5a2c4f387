"""Units of NRRD headers: of each axis of space its own, and in one line refused where they are not known."""

import numpy as np
import pytest
from scan_files import write_nrrd

from alice3d.io.read import read_header
from alice3d.io.volume import ScanError

LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
TURNED = "(2,0.5,0) (-0.5,2,0) (0,0,3)"
MATRIX = np.array([[2, -0.5, 0], [0.5, 2, 0], [0, 0, 3.0]])


def nrrd(folder, **fields):
    """An NRRD of 6 x 7 x 5 voxels with turned axes; a field of value "" is left out."""
    return write_nrrd(folder / "a.nrrd", **{"space_directions": TURNED, **fields})


@pytest.mark.parametrize(
    ("units", "factors"),
    [
        ("", (1, 1, 1)),
        ('"mm" "mm" "mm"', (1, 1, 1)),
        ('"mm"', (1, 1, 1)),
        ("cm cm cm", (10, 10, 10)),
        ('"cm" "cm" "mm"', (10, 10, 1)),
        ('"mm" "mm" "cm"', (1, 1, 10)),
        ('"mm" "" ""', (1, 1, 1)),
    ],
)
def test_space_units_are_of_the_components_of_directions_and_origin(tmp_path, units, factors):
    header = read_header(nrrd(tmp_path, space_units=units))
    scale = LPS_TO_RAS * factors
    np.testing.assert_allclose(header.affine[:3, :3], MATRIX * scale[:, None])
    np.testing.assert_allclose(header.affine[:3, 3], np.array([1, 2, 3]) * scale)
    assert header.notes == (() if factors == (1, 1, 1) else ("header's unit is not mm, converted",))


def test_metres_and_micrometres(tmp_path):
    directions = "(0.002,0,0) (0,2000,0) (0,0,0.3)"
    units = '"meter" "micron" "centimeters"'
    header = read_header(nrrd(tmp_path, space_directions=directions, space_units=units, space_origin="(1,1,1)"))
    np.testing.assert_allclose(header.affine, [[-2, 0, 0, -1000], [0, -2, 0, -0.001], [0, 0, 3, 10], [0, 0, 0, 1]])


def test_space_units_skip_an_axis_that_is_none_of_space(tmp_path):
    fields = {"dimension": "4", "sizes": "1 6 7 5", "space_directions": f"none {TURNED}"}
    header = read_header(nrrd(tmp_path, **fields, space_units='"mm" "mm" "cm"'))
    np.testing.assert_allclose(header.affine[:3, :3], MATRIX * (LPS_TO_RAS * [1, 1, 10])[:, None])


def test_units_go_with_spacings_by_axis_of_the_array(tmp_path):
    plain = {"space": "", "space_directions": "", "space_origin": ""}
    path = nrrd(tmp_path, **plain, spacings="2 2 0.3", units='"mm" "mm" "cm"')
    assert np.diag(read_header(path, unoriented="ras").affine).tolist() == [2, 2, 3, 1]
    fields = {"dimension": "4", "sizes": "1 6 7 5", "spacings": "NaN 2 0.2 3", "units": '"s" "mm" "cm" "mm"'}
    header = read_header(nrrd(tmp_path, **plain, **fields), unoriented="ras")
    assert np.diag(header.affine).tolist() == [2, 2, 3, 1]
    assert "header's unit is not mm, converted" in header.notes
    path = nrrd(tmp_path, units='"cm" "cm" "cm"')  # of no account beside directions
    np.testing.assert_allclose(read_header(path).affine[:3, :3], MATRIX * LPS_TO_RAS[:, None])


@pytest.mark.parametrize(
    ("units", "said"),
    [
        ('"mm" "mm" "furlong"', 'unknown unit: "mm" "mm" "furlong"; mm is needed'),
        ('"cm" "" ""', 'unknown unit: space units "cm" "" "" leave an axis out; mm is needed'),
        ('"mm" "cm"', 'bad header: space units "mm" "cm" do not fit the dimension'),
        ("furlong", "unknown unit: furlong; mm is needed"),
    ],
)
def test_unknown_units_are_refused_on_any_axis(tmp_path, units, said):
    with pytest.raises(ScanError) as caught:
        read_header(nrrd(tmp_path, space_units=units))
    assert caught.value.reason == said
