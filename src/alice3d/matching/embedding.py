"""Embedding of a scan: a fine and a coarse unit-length vector for every position, and which positions are body."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from alice3d.geometry import Grid
from alice3d.losses.contrast import sample_at

# Shape suffixes: n points, m cells of the body, d width of the concatenated embedding, xyz voxels or cells.

FINE, COARSE = 2, 8
"""Strides in voxels of the two maps of `nn.heads.embedding.FPN3D`."""
WHOLE_VOXELS = 3_000_000
"""Scans up to this many voxels are processed as a whole (about 1 GB of features)."""
TILE, HALO = 64, 32
"""Larger scans are split into tiles of this many voxels per side, with this halo around; multiples of 8."""
KEPT_BYTES = 256 * 2**20
"""Concatenated vectors up to this size are kept; those of larger scans are recomputed for each search."""
CELLS = 65_536
"""Cells searched at once."""
TENSORS = ("fine", "coarse", "body")
"""Fields of `EmbeddedScan`."""


@dataclass(frozen=True, eq=False)
class EmbeddedScan:
    """The embeddings of one scan, float32 on the CPU.

    Attributes:
        fine: (f, x, y, z) at stride 2.
        coarse: (c, x / 4, y / 4, z / 4) at stride 8.
        body: (x, y, z) at stride 2, True = mostly body.
        grid: of the scan's voxels at the matcher's spacing, before padding to multiples of 8.
        body_box_mm: low and high corner of the body, RAS mm.
        checksum: of the scan.
        matcher: checksum of its matcher; "" where unknown.
    """

    fine: Float[Tensor, "f x y z"]
    coarse: Float[Tensor, "c u v w"]
    body: Bool[Tensor, "x y z"]
    grid: Grid
    body_box_mm: tuple[tuple[float, ...], tuple[float, ...]]
    checksum: str
    matcher: str = ""

    def __getstate__(self) -> dict[str, Any]:
        """Fields only, without cached properties; tensors as arrays, which can be sent to any process."""
        state = {name: self.__dict__[name] for name in self.__dataclass_fields__}
        return state | {name: state[name].numpy() for name in TENSORS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tensors = {name: torch.from_numpy(state[name]) for name in TENSORS}
        # Same memory layout as before: sums in another order would differ in the last digit.
        levels = {name: channels_last(tensors[name]) for name in ("fine", "coarse")}
        self.__dict__.update(state | tensors | levels)

    @property
    def padded(self) -> tuple[int, int, int]:
        """Voxels along each axis with the padding."""
        x, y, z = (FINE * int(n) for n in self.fine.shape[1:])
        return x, y, z

    @cached_property
    def cells(self) -> Tensor:
        """(m, 3) int64 indices of the body's cells in the fine map."""
        return self.body.nonzero()

    def cell_mm(self, cells: NDArray[Any]) -> NDArray[np.float64]:
        """Centres (..., 3) in RAS mm of indices (..., 3) in the fine map, also fractional ones."""
        return self.grid.world((np.asarray(cells) + 0.5) * FINE - 0.5)

    def cell_of(self, points_mm: NDArray[Any]) -> NDArray[np.float64]:
        """Fractional indices (..., 3) in the fine map of points (..., 3) RAS mm."""
        return (self.grid.index(points_mm) + 0.5) / FINE - 0.5

    def in_body(self, points_mm: NDArray[Any], margin: int = 1) -> NDArray[np.bool_]:
        """Which of the points (n, 3) lie in the body, up to `margin` cells around it."""
        mask = self.body.numpy()
        if margin:
            mask = ndimage.binary_dilation(mask, iterations=margin)
        cells = np.rint(self.cell_of(points_mm)).astype(int)
        inside = self.grid.contains(points_mm) & ((cells >= 0) & (cells < mask.shape)).all(axis=-1)
        cells = np.clip(cells, 0, np.array(mask.shape) - 1)
        found: NDArray[np.bool_] = inside & mask[cells[:, 0], cells[:, 1], cells[:, 2]]
        return found

    def at(self, points_mm: NDArray[Any]) -> Float[Tensor, "n d"]:
        """Concatenated vectors of points (n, 3) RAS mm, interpolated trilinearly; their inner products are mean
        cosines.

        Points outside the scan read its border.
        """
        index = torch.from_numpy(np.asarray(self.grid.index(points_mm), np.float32))[None]
        return join(*(sample_at(level[None], index, self.padded)[0] for level in (self.fine, self.coarse)))

    def at_cells(self, cells: Tensor) -> Float[Tensor, "... d"]:
        """Concatenated vectors at integer indices (..., 3) of the fine map."""
        x, y, z = cells.unbind(-1)
        index = (cells.reshape(1, -1, 3).float() + 0.5) * FINE - 0.5
        coarse = sample_at(self.coarse[None], index, self.padded)[0]
        return join(self.fine.movedim(0, -1)[x, y, z], coarse.reshape(*cells.shape[:-1], -1))

    def joined(self) -> Iterator[tuple[int, Float[Tensor, "m d"]]]:
        """Concatenated vectors of the body's cells in blocks: number of the first cell, and the vectors."""
        if self._small:
            yield 0, self._kept
            return
        for first in range(0, len(self.cells), CELLS):
            yield first, self.at_cells(self.cells[first : first + CELLS])

    @property
    def _small(self) -> bool:
        return self.body.numel() * (len(self.fine) + len(self.coarse)) * 4 <= KEPT_BYTES

    @cached_property
    def _kept(self) -> Float[Tensor, "m d"]:
        """Concatenated vectors of the body's cells."""
        coarse = F.interpolate(self.coarse[None], size=tuple(self.body.shape), mode="trilinear", align_corners=False)
        return join(self.fine.movedim(0, -1)[self.body], coarse[0].movedim(0, -1)[self.body])


def join(fine: Float[Tensor, "... f"], coarse: Float[Tensor, "... c"]) -> Float[Tensor, "... d"]:
    """One vector whose inner products are the mean of the fine and the coarse cosine similarity."""
    return torch.cat([F.normalize(fine, dim=-1), F.normalize(coarse, dim=-1)], dim=-1) / 2**0.5


@torch.no_grad()
def embed_image(
    network: nn.Module,
    image_cxyz: NDArray[np.float32],
    air_c: NDArray[np.float32],
    *,
    whole_voxels: int = WHOLE_VOXELS,
    tile: int = TILE,
    halo: int = HALO,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    """Run the matcher's network over a whole scan with bounded memory.

    Args:
        network: (b, c, x, y, z) to (fine, coarse), strides 2 and 8.
        image_cxyz: channels at the matcher's spacing; padded at the far ends with air to multiples of 8.
        air_c: (c,) channel values of air.
        whole_voxels: scans above this many voxels are split into tiles.
        tile, halo: voxels of a tile's side and of the halo around it, multiples of 8.

    Returns:
        fine (f, x, y, z) and coarse (c, …), float32 on the CPU.
    """
    image = torch.from_numpy(np.ascontiguousarray(image_cxyz, np.float32))
    air = torch.from_numpy(np.asarray(air_c, np.float32)).view(-1, 1, 1, 1)
    ends = [-n % COARSE for n in image.shape[1:]]
    image = F.pad(image - air, [0, ends[2], 0, ends[1], 0, ends[0]]) + air
    sides = image.shape[1:]
    if int(np.prod(sides)) <= whole_voxels:
        fine, coarse = network(image[None].to(device))
        return channels_last(fine[0].float().cpu()), channels_last(coarse[0].float().cpu())
    maps: list[Tensor] | None = None
    for corner in itertools.product(*(range(0, n, tile) for n in sides)):
        stop = [min(a + tile, n) for a, n in zip(corner, sides, strict=True)]
        low = [max(a - halo, 0) for a in corner]
        high = [min(b + halo, n) for b, n in zip(stop, sides, strict=True)]
        outputs = network(image[None, :, *(slice(a, b) for a, b in zip(low, high, strict=True))].to(device))
        if maps is None:
            maps = [
                torch.empty(output.shape[1], *(n // stride for n in sides))
                for output, stride in zip(outputs, (FINE, COARSE), strict=True)
            ]
        for whole, output, stride in zip(maps, outputs, (FINE, COARSE), strict=True):
            target = [slice(a // stride, b // stride) for a, b in zip(corner, stop, strict=True)]
            source = [slice((a - c) // stride, (b - c) // stride) for a, b, c in zip(corner, stop, low, strict=True)]
            whole[:, *target] = output[0][:, *source].float().cpu()
    assert maps is not None
    return channels_last(maps[0]), channels_last(maps[1])


def channels_last(map_cxyz: Tensor) -> Tensor:
    """The same map in channels-last memory layout, in which gathering of positions is fast."""
    return map_cxyz.movedim(0, -1).contiguous().movedim(-1, 0)


def body_cells(body_xyz: NDArray[np.bool_], shape: tuple[int, ...]) -> Bool[Tensor, "x y z"]:
    """Body voxels to cells of the fine map of `shape`: True where at least half of the 2³ voxels are body."""
    ends = [(0, FINE * n - side) for n, side in zip(shape, body_xyz.shape, strict=True)]
    padded = np.pad(body_xyz, ends).astype(np.float32)
    share = F.avg_pool3d(torch.from_numpy(padded)[None], FINE)[0]
    return share >= 0.5
