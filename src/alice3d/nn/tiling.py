"""Sliding windows over a volume, and class probabilities merged from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from alice3d.memory import lacks_memory
from alice3d.nn.backbones.base import Backbone

WHOLE_VOXELS = 128**3
"""Scans up to this many voxels are processed as a whole by a position-free network (about 1 GB of features)."""
LARGE_WINDOW = 96
"""Voxels per side of a position-free network's windows in larger scans: few borders, and little overlap."""


def reading_window(backbone: Backbone, crop: int) -> tuple[int, int]:
    """Voxels per side of the sliding windows of a trained network, and up to how many voxels a scan is processed as a
    whole.

    Args:
        backbone: of the network.
        crop: voxels per side of its training crops.
    """
    if backbone.position_free:
        return max(crop, LARGE_WINDOW), WHOLE_VOXELS
    return crop, 0


def gaussian_window(shape: tuple[int, ...], sigma_share: float = 0.125) -> Float[Tensor, "x y z"]:
    """Weight of each voxel of a window: a Gaussian of `sigma_share` of each side, at least a thousandth of its peak.

    As in nnU-Net (Isensee et al., Nature Methods 2021) and MONAI.
    """
    weight = torch.ones(())
    for n in shape:
        x = torch.arange(n, dtype=torch.float32) - (n - 1) / 2
        weight = weight[..., None] * torch.exp(-0.5 * (x / (sigma_share * n)) ** 2)
    return weight.clamp(min=max(float(weight.min()), 1e-3))


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """First voxels of windows that cover 0 .. length, in equal steps, the last one moved back to end at `length`."""
    step = max(int(window * (1 - overlap)), 1)
    starts = list(range(0, max(length - window, 0), step))
    return [*starts, max(length - window, 0)]


@torch.no_grad()
def predict_probabilities(
    net: nn.Module,
    image_cxyz: NDArray[np.float32],
    *,
    window: int,
    whole_voxels: int = WHOLE_VOXELS,
    overlap: float = 0.5,
    batch: int = 4,
    device: str | torch.device = "cpu",
) -> NDArray[np.float32]:
    """Class probabilities of a whole scan, by Gaussian-weighted overlapping windows or as a whole.

    Args:
        net: volume (b, c, x, y, z) to logits (b, k, x, y, z); its `stride` (1 where it has none) divides the sides.
        image_cxyz: channels of the scan. It is padded at the far ends with each channel's smallest value.
        window: voxels per side of a window, rounded up to a multiple of the stride.
        whole_voxels: a padded scan of up to this many voxels is processed as a whole; 0 always uses windows.
        overlap: fraction of a window that overlaps with the next one along an axis.
        batch: windows per forward pass.
        device: device of the network.

    Returns:
        (k, x, y, z) float32 that sums to 1 over k.
    """
    stride = int(getattr(net, "stride", 1))
    net = net.to(device)
    image = torch.from_numpy(np.ascontiguousarray(image_cxyz))
    shape = image.shape[1:]

    def up(n: int) -> int:
        return -(-n // stride) * stride

    whole = int(np.prod([up(n) for n in shape])) <= whole_voxels
    sides = [up(n) if whole else up(window) for n in shape]
    padded = [max(n, side) for n, side in zip(shape, sides, strict=True)]
    lowest = image.amin(dim=(1, 2, 3), keepdim=True)
    ends = [(0, p - n) for n, p in zip(shape, padded, strict=True)]
    image = F.pad(image - lowest, [value for pair in reversed(ends) for value in pair]) + lowest

    starts = [window_starts(n, side, overlap) for n, side in zip(padded, sides, strict=True)]
    boxes = [
        tuple(slice(at, at + side) for at, side in zip(corner, sides, strict=True))
        for corner in itertools.product(*starts)
    ]
    if len(boxes) == 1:
        scores = net(image[None].to(device)).float().softmax(dim=1)[0].cpu()
        window_kxyz: NDArray[np.float32] = scores[:, : shape[0], : shape[1], : shape[2]].numpy()
        return window_kxyz
    weight = gaussian_window(tuple(sides))
    total: Tensor | None = None
    weights = torch.zeros(padded)
    for first in range(0, len(boxes), batch):
        chosen = boxes[first : first + batch]
        for box, tile in zip(
            chosen, _window_probabilities(net, [image[:, *box] for box in chosen], device), strict=True
        ):
            if total is None:
                total = torch.zeros(tile.shape[0], *padded)
            total[:, *box] += tile.mul_(weight)
            weights[box] += weight
    assert total is not None
    result: NDArray[np.float32] = total.div_(weights)[:, : shape[0], : shape[1], : shape[2]].numpy()
    return result


def _window_probabilities(net: nn.Module, windows: list[Tensor], device: str | torch.device) -> Iterator[Tensor]:
    """Class probabilities (k, x, y, z) of windows (c, x, y, z); one by one where memory does not take them together."""
    together: Tensor | None = None
    try:
        together = net(torch.stack(windows).to(device)).float().softmax(dim=1).cpu()
    except (MemoryError, RuntimeError) as error:
        if len(windows) == 1 or not lacks_memory(error):
            raise
        error.__traceback__ = None  # its frames hold the activations
    if together is not None:
        yield from together
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for window in windows:
        yield net(window[None].to(device)).float().softmax(dim=1).cpu()[0]


@dataclass(frozen=True)
class Tile:
    """A tile: a box of a scan whose pyramid is computed at once, and the part of it whose result is used.

    Attributes:
        low: (3,) first voxel of the box in the padded scan.
        side: (3,) voxels of the box.
        own_low, own_high: (3,) the part of the scan, start <= index < stop, that is taken from this tile.
    """

    low: tuple[int, ...]
    side: tuple[int, ...]
    own_low: tuple[int, ...]
    own_high: tuple[int, ...]

    @property
    def own(self) -> tuple[slice, ...]:
        """The part that is taken from it, in the scan."""
        return tuple(slice(a, b) for a, b in zip(self.own_low, self.own_high, strict=True))

    @property
    def inner(self) -> tuple[slice, ...]:
        """The part that is taken from it, in the box."""
        return tuple(slice(a - at, b - at) for a, b, at in zip(self.own_low, self.own_high, self.low, strict=True))


def tiles_of(shape: tuple[int, ...], stride: int, window: int | None) -> list[Tile]:
    """Tiles of a scan: one, or half-overlapping windows of which the central part is used.

    Args:
        shape: of the scan.
        stride: sides of boxes are multiples of it.
        window: voxels per side; None processes the scan as a whole.
    """
    axes = []
    for length in shape:
        side = -(-(window or length) // stride) * stride
        last = max(length - side, 0)
        starts = [*range(0, last, max(side // 2, 1)), last]
        borders = [0, *((a + b + side) // 2 for a, b in itertools.pairwise(starts)), length]
        axes.append([(start, side, *own) for start, own in zip(starts, itertools.pairwise(borders), strict=True)])
    return [Tile(*zip(*axis_parts, strict=True)) for axis_parts in itertools.product(*axes)]


def read_pyramids(
    backbone: Backbone, image_cxyz: NDArray[np.float32], window: int, whole_voxels: int, device: torch.device
) -> Iterator[tuple[Tile, list[Tensor]]]:
    """A backbone's maps of a scan, tile by tile; padded as in prediction, with each channel's smallest value.

    Args:
        image_cxyz: channels of the scan.
        window, whole_voxels: see `reading_window`.
    """
    image = torch.from_numpy(image_cxyz)
    lowest = image.amin(dim=(1, 2, 3), keepdim=True)
    whole = image[0].numel() <= whole_voxels
    for tile in tiles_of(tuple(image.shape[1:]), backbone.stride, None if whole else window):
        box = image[:, *(slice(a, a + n) for a, n in zip(tile.low, tile.side, strict=True))]
        ends = [(0, n - have) for n, have in zip(tile.side, box.shape[1:], strict=True)]
        padded = F.pad(box - lowest, [value for pair in reversed(ends) for value in pair]) + lowest
        yield tile, backbone.pyramid(padded[None].to(device))
