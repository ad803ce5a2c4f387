"""Pictures put the patient's right, front and head where the letters say."""

import io

import numpy as np
import pytest
from matplotlib import image as mpl_image

from alice3d.report.planes import PLANES, View, blend, grey, png_of, side_by_side, slice_of, three_planes, window_of

AXIAL, CORONAL, SAGITTAL = PLANES


def corner_of(axes_high: tuple[bool, bool, bool]) -> np.ndarray:
    """A volume that is bright in the octant at the high (R, A, S) or low end of each axis."""
    volume = np.zeros((6, 8, 10))
    volume[
        tuple(slice(n // 2, None) if high else slice(0, n // 2) for n, high in zip((6, 8, 10), axes_high, strict=True))
    ] = 1
    return volume


def test_right_is_left_front_is_top_and_head_is_top():
    volume = corner_of((True, True, True))  # the right, front, upper octant
    axial, coronal = slice_of(volume, AXIAL, 9), slice_of(volume, CORONAL, 7)
    sagittal = slice_of(volume, SAGITTAL, 5)
    for picture in (axial, coronal, sagittal):
        assert picture[0, 0] == 1
        assert picture[-1, 0] == picture[0, -1] == picture[-1, -1] == 0
    assert axial.shape == (8, 6)
    assert coronal.shape == (10, 6)
    assert sagittal.shape == (10, 8)
    assert AXIAL.letters == ("R", "L", "A", "P")
    assert CORONAL.letters == ("R", "L", "S", "I")
    assert SAGITTAL.letters == ("A", "P", "S", "I")


def test_crosshair_marks_the_bright_voxel():
    volume = np.zeros((20, 30, 40))
    volume[4, 20, 31] = 1
    figure = three_planes(volume, (2, 3, 4), (4, 20, 31), window=(0, 1))
    for axes, plane in zip(figure.axes, PLANES, strict=True):
        picture = axes.images[0]
        data = np.asarray(picture.get_array())[..., 0]
        row, column = np.unravel_index(data.argmax(), data.shape)
        left, right, bottom, top = picture.get_extent()
        assert right - left == pytest.approx((20, 30, 40)[plane.across] * (2, 3, 4)[plane.across])
        x = (column + 0.5) / data.shape[1] * (right - left)
        y = top - (row + 0.5) / data.shape[0] * (top - bottom)
        horizontal, vertical = axes.lines[0], axes.lines[2]
        assert horizontal.get_ydata()[0] == pytest.approx(y)
        assert vertical.get_xdata()[0] == pytest.approx(x)


def test_one_scale_for_both_scans():
    small, large = np.zeros((10, 10, 10)), np.zeros((20, 20, 20))
    figure = side_by_side(View(small, (4, 4, 4), (5, 5, 5)), View(large, (2, 2, 2), (9, 9, 9)))
    figure.canvas.draw()
    assert len(figure.axes) == 6
    scale = [axes.get_window_extent().width / (axes.get_xlim()[1] - axes.get_xlim()[0]) for axes in figure.axes]
    assert np.ptp(scale) < 0.1 * max(scale)


def test_point_outside_is_drawn_without_crosshair():
    figure = three_planes(np.zeros((5, 5, 5)), (1, 1, 1), (50, -3, 2))
    assert not figure.axes[0].lines


def test_overlay_colours_only_labels():
    brightness = grey(np.array([[0.0, 100.0], [200.0, 50.0]]), (0, 200))
    picture = blend(brightness, np.array([[0, 1], [13, 0]]))
    assert (picture[0, 0] == 0).all()
    assert picture[0, 1].std() > 0
    assert picture[1, 1] == pytest.approx([0.25] * 3)
    assert (blend(np.zeros((1, 1)), np.array([[1]])) == blend(np.zeros((1, 1)), np.array([[13]]))).all()


def test_png_opens_and_constant_image_has_a_window():
    volume = np.full((6, 6, 6), 7.0)
    low, high = window_of(volume)
    assert low < high
    picture = mpl_image.imread(io.BytesIO(png_of(three_planes(volume, (1, 1, 1), (3, 3, 3), title="a & <b>"))))
    assert picture.ndim == 3


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="three axes"):
        View(np.zeros((3, 3)), (1, 1, 1), (0, 0, 0))
    with pytest.raises(ValueError, match="overlay"):
        View(np.zeros((3, 3, 3)), (1, 1, 1), (0, 0, 0), overlay=np.zeros((2, 3, 3)))
