"""Connected components of a structure: which structures are one piece, and which components a prediction keeps.

Voxels that share a face, an edge or a corner are connected (26 neighbours), in references and in predictions alike:
thin oblique tubes, such as a spinal cord at 4 mm, touch at edges and corners alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alice3d.data.store import Case, Store

NEIGHBOURS = np.ones((3, 3, 3), bool)
"""A voxel and its 26 neighbours."""
SINGLE_SHARE = 0.98
"""A structure is connected if its largest component holds this fraction of its voxels in every training case."""
KEPT_SHARE = 0.1
"""Components of at least this fraction of the largest one's voxels stay: the parts of a tube that a prediction or
resampling broke are of its order, false positives far from it seldom."""


def connected_structures(store: Store, cases: list[Case], values: tuple[int, ...]) -> list[int]:
    """Label values of the structures that are one connected component in every case that has them."""
    single = set(values[1:])
    for case in cases:
        labels = store.label(case.id)[:, :, :]
        for value in single.intersection(case.structures):
            components, count = ndimage.label(labels == value, NEIGHBOURS)
            sizes = np.bincount(components.ravel())[1:]
            if count > 1 and sizes.max() < SINGLE_SHARE * sizes.sum():
                single.discard(value)
    return sorted(single)


def remove_small_components(classes_xyz: NDArray[np.int16], which: Iterable[int]) -> None:
    """Set to background, in place, the small connected components of each class in `which`.

    The largest component stays, and every other with at least `KEPT_SHARE` of its voxels.

    Args:
        classes_xyz: (x, y, z) class indices, 0 is background.
        which: classes that are one connected structure in the training cases.
    """
    boxes = ndimage.find_objects(classes_xyz)
    for k in which:
        box = boxes[k - 1] if k <= len(boxes) else None
        if box is None:
            continue
        part = classes_xyz[box]
        components, count = ndimage.label(part == k, NEIGHBOURS)
        if count > 1:
            sizes = np.bincount(components.ravel())
            sizes[0] = 0  # what is not of the class
            small = (sizes > 0) & (sizes < KEPT_SHARE * sizes.max())
            part[small[components]] = 0
