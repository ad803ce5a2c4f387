"""Which structures are connected, and which of their components a prediction keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alice3d.tasks.segmentation.components import connected_structures, remove_small_components


@dataclass(frozen=True)
class Labelled:
    """What the function asks of a case."""

    id: str
    structures: tuple[int, ...]


@dataclass
class Shelf:
    """What the function asks of a store."""

    labels: dict[str, Any]

    def label(self, id: str) -> Any:
        return self.labels[id]


def test_connected_structures():
    labels = np.zeros((9, 5, 5), np.uint8)
    labels[0:2], labels[3, :2], labels[8] = 1, 2, 2
    assert connected_structures(Shelf({"a": labels}), [Labelled("a", (1, 2))], (0, 1, 2)) == [1]


def diagonal_tube(length: int = 30) -> NDArray[np.int16]:
    """One voxel thick, from corner to corner: its voxels touch at corners alone."""
    classes = np.zeros((length + 10,) * 3, np.int16)
    steps = np.arange(length)
    classes[steps, steps, steps] = 1
    return classes


def cleaned(classes: NDArray[np.int16], which: list[int]) -> NDArray[np.int16]:
    classes = classes.copy()
    remove_small_components(classes, which)
    return classes


def test_a_thin_diagonal_tube_is_connected_and_stays_whole() -> None:
    tube = diagonal_tube()
    assert connected_structures(Shelf({"a": tube}), [Labelled("a", (1,))], (0, 1)) == [1]
    np.testing.assert_array_equal(cleaned(tube, [1]), tube)


def test_a_tube_with_a_gap_keeps_both_parts() -> None:
    tube = diagonal_tube()
    tube[12, 12, 12] = 0
    np.testing.assert_array_equal(cleaned(tube, [1]), tube)


def test_a_distant_speck_goes() -> None:
    tube = diagonal_tube()
    speck = tube.copy()
    speck[35:37, 2, 2] = 1  # two voxels of thirty: less than a tenth
    np.testing.assert_array_equal(cleaned(speck, [1]), tube)
    speck[34, 2, 2] = 1  # three: a tenth
    np.testing.assert_array_equal(cleaned(speck, [1]), speck)


def test_classes_that_are_not_named_keep_all() -> None:
    classes = np.zeros((20, 4, 4), np.int16)
    classes[0:5], classes[7, 0, 0] = 1, 1
    classes[9:14], classes[16, 0, 0] = 2, 2
    expected = classes.copy()
    expected[7] = 0
    np.testing.assert_array_equal(cleaned(classes, [1]), expected)


def test_a_class_that_is_not_there_changes_nothing() -> None:
    tube = diagonal_tube()
    np.testing.assert_array_equal(cleaned(tube, [2, 1]), tube)


def test_boxes_give_what_the_whole_array_gives() -> None:
    """Against labelling each class in the whole array."""
    rng = np.random.default_rng(0)
    classes = rng.choice([0, 0, 0, 0, 1, 2, 3, 5], (20, 22, 18)).astype(np.int16)
    expected = classes.copy()
    for k in (1, 3, 4, 5, 9):
        components, _ = ndimage.label(expected == k, np.ones((3, 3, 3)))
        sizes = np.bincount(components.ravel())[1:]
        for number, size in enumerate(sizes, start=1):
            if size < 0.1 * sizes.max():
                expected[components == number] = 0
    assert (expected != classes).any()
    np.testing.assert_array_equal(cleaned(classes, [1, 3, 4, 5, 9]), expected)
