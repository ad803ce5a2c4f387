"""Structures by name: numbered over many label files, and painted into one label map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def numbered(files: Iterable[Iterable[str]]) -> dict[int, str]:
    """Label value (from 1) to name over many files, each the names of its structures, in their order: a name has the
    same value in all of them.

    >>> numbered([["liver", "spleen"], ["spleen", "aorta"]])
    {1: 'liver', 2: 'spleen', 3: 'aorta'}
    """
    names: dict[str, None] = {}
    for of_file in files:
        names.update(dict.fromkeys(of_file))
    return dict(enumerate(names, start=1))


def painted(
    masks: Mapping[int, NDArray[np.int64]], shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8] | NDArray[np.int16], bool]:
    """A label map of structures; where they overlap, the smaller one is kept.

    Args:
        masks: label value to the voxels of its structure (n, indices of the flat array).
        shape: of the map (i, j, k).

    Returns:
        (i, j, k) values, uint8 or int16, and whether any overlapped.
    """
    label = np.zeros(shape, np.uint8 if max(masks, default=0) < 256 else np.int16)
    flat, overlapped = label.ravel(), False
    for value in sorted(masks, key=lambda value: -len(masks[value])):  # the largest first
        overlapped = overlapped or bool(flat[masks[value]].any())
        flat[masks[value]] = value
    return label, overlapped


def few(names: Sequence[str]) -> str:
    """Names for a message, cut where they are many."""
    text = ", ".join(names)
    return text if len(text) <= 80 else text[:77] + "..."
