"""A backbone's maps of a whole scan, read piece by piece where it is large."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from alice3d.nn.base import Backbone


@dataclass(frozen=True)
class Piece:
    """A box of a scan whose pyramid is read at once, and the part of it that no other box reads.

    Attributes:
        low: (3,) first voxel of the box in the padded scan.
        side: (3,) voxels of the box.
        own_low, own_high: (3,) the part of the scan, start <= index < stop, that this box answers for.
    """

    low: tuple[int, ...]
    side: tuple[int, ...]
    own_low: tuple[int, ...]
    own_high: tuple[int, ...]

    @property
    def own(self) -> tuple[slice, ...]:
        """What it answers for, in the scan."""
        return tuple(slice(a, b) for a, b in zip(self.own_low, self.own_high, strict=True))

    @property
    def inner(self) -> tuple[slice, ...]:
        """What it answers for, in the box."""
        return tuple(slice(a - at, b - at) for a, b, at in zip(self.own_low, self.own_high, self.low, strict=True))


def pieces_of(shape: tuple[int, ...], stride: int, window: int | None) -> list[Piece]:
    """Boxes that share a scan out: one, or half-overlapping windows of which each answers for its middle.

    Args:
        shape: of the scan.
        stride: sides of boxes are multiples of it.
        window: voxels a side; None reads the scan whole.
    """
    axes = []
    for length in shape:
        side = -(-(window or length) // stride) * stride
        last = max(length - side, 0)
        starts = [*range(0, last, max(side // 2, 1)), last]
        borders = [0, *((a + b + side) // 2 for a, b in itertools.pairwise(starts)), length]
        axes.append([(start, side, *own) for start, own in zip(starts, itertools.pairwise(borders), strict=True)])
    return [Piece(*zip(*axis_parts, strict=True)) for axis_parts in itertools.product(*axes)]


def read_pyramids(
    backbone: Backbone, image_cxyz: NDArray[np.float32], window: int, whole_voxels: int, device: torch.device
) -> Iterator[tuple[Piece, list[Tensor]]]:
    """A backbone's maps of a scan, piece by piece; padded as prediction does, with each channel's smallest value.

    Args:
        image_cxyz: channels of the scan.
        window, whole_voxels: see `nn.seghead.reading_window`.
    """
    image = torch.from_numpy(image_cxyz)
    lowest = image.amin(dim=(1, 2, 3), keepdim=True)
    whole = image[0].numel() <= whole_voxels
    for piece in pieces_of(tuple(image.shape[1:]), backbone.stride, None if whole else window):
        box = image[:, *(slice(a, a + n) for a, n in zip(piece.low, piece.side, strict=True))]
        ends = [(0, n - have) for n, have in zip(piece.side, box.shape[1:], strict=True)]
        padded = F.pad(box - lowest, [value for pair in reversed(ends) for value in pair]) + lowest
        yield piece, backbone.pyramid(padded[None].to(device))
