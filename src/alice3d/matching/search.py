"""Search for the most similar position in the key scan: in the whole body, or near an expected position."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from alice3d.matching.embedding import EmbeddedScan

# Shape suffixes: n points, m cells of the body, d width, k neighbours.

SIMILARITIES = 2**24
"""Similarities, or numbers of the vectors that they are made from, in memory at once (64 MB)."""
CONTRAST = 4.0
"""Soft-argmax weights neighbours by exp(-CONTRAST · (peak - similarity) / (peak - mean)): for any sharpness of the
similarities the same fraction of neighbours has weight (self match of a 13-minute matcher: 1.4 mm median)."""


def best_cells(vectors_nd: Float[Tensor, "n d"], key: EmbeddedScan) -> Int[Tensor, "n 3"]:
    """The body cell of the key with the most similar vector, for each row; one matrix product per scan."""
    best = torch.full((len(vectors_nd),), -torch.inf)
    where = torch.zeros(len(vectors_nd), dtype=torch.long)
    for first, cells_md in key.joined():
        rows = max(SIMILARITIES // max(len(cells_md), 1), 1)
        for at in range(0, len(vectors_nd), rows):
            value, place = (vectors_nd[at : at + rows] @ cells_md.T).max(dim=1)
            better = value > best[at : at + rows]
            best[at : at + rows] = torch.where(better, value, best[at : at + rows])
            where[at : at + rows] = torch.where(better, place + first, where[at : at + rows])
    return key.cells[where]


def _around(reach: int) -> Int[Tensor, "k 3"]:
    side = torch.arange(-reach, reach + 1)
    return torch.stack(torch.meshgrid(side, side, side, indexing="ij"), dim=-1).reshape(-1, 3)


def _near(
    vectors_nd: Tensor, key: EmbeddedScan, cells_n3: Tensor, reach: int
) -> tuple[Int[Tensor, "n k 3"], Float[Tensor, "n k"]]:
    """Cells around given ones, and their similarity; -inf for cells outside the map."""
    shape = torch.tensor(key.body.shape)
    places = cells_n3[:, None] + _around(reach)
    inside = ((places >= 0) & (places < shape)).all(dim=-1)
    clipped = places.clamp(min=0).minimum(shape - 1)
    similarity = torch.einsum("nkd,nd->nk", key.at_cells(clipped), vectors_nd)
    return places, similarity.masked_fill(~inside, -torch.inf)


def refine(
    vectors_nd: Float[Tensor, "n d"],
    key: EmbeddedScan,
    cells_n3: Int[Tensor, "n 3"],
    expected_n3: Float[Tensor, "n 3"] | None = None,
    pull: float = 0.0,
) -> NDArray[np.float64]:
    """The peak near each cell to a fraction of a cell, by soft-argmax over it and its 26 neighbours; (n, 3) RAS mm.

    Args:
        expected_n3, pull: as in `search_near`, indices in the fine map.
    """
    places, score = _near(vectors_nd, key, cells_n3, 1)
    if expected_n3 is not None:
        score = score - pull * ((places - expected_n3[:, None]) ** 2).sum(dim=-1)
    peak = score.amax(dim=1, keepdim=True)
    spread = peak - torch.where(score.isinf(), peak, score).mean(dim=1, keepdim=True)
    weight = (CONTRAST * (score - peak) / spread.clamp(min=1e-6)).exp()
    mean = (weight[..., None] * places).sum(dim=1) / weight.sum(dim=1, keepdim=True)
    return key.cell_mm(mean.double().numpy())


def search_all(vectors_nd: Float[Tensor, "n d"], key: EmbeddedScan) -> NDArray[np.float64]:
    """The most similar position in the key's whole body for each row, with subvoxel refinement; (n, 3) RAS mm.

    Rows are refined in blocks whose neighbours' vectors hold `SIMILARITIES` numbers, so memory does not grow with n.
    """
    if not len(vectors_nd):
        return np.zeros((0, 3))
    cells = best_cells(vectors_nd, key)
    rows = max(SIMILARITIES // (len(_around(1)) * vectors_nd.shape[1]), 1)
    # Of nearly equal size: a last block of one row would go through another kernel and differ in the last digit.
    blocks = max(-(-len(cells) // rows), 1)
    parts = zip(vectors_nd.tensor_split(blocks), cells.tensor_split(blocks), strict=True)
    return np.concatenate([refine(vectors, key, near) for vectors, near in parts])


def search_near(
    vectors_nd: Float[Tensor, "n d"], key: EmbeddedScan, expected_mm: NDArray[Any], *, reach: int, pull: float
) -> NDArray[np.float64]:
    """The most similar position within `reach` cells of an expected one, refined; (n, 3) RAS mm.

    Args:
        expected_mm: (n, 3) RAS mm.
        reach: cells on each side.
        pull: penalty on the similarity at a distance of one cell from the expected position, growing with its square.
    """
    expected = torch.from_numpy(key.cell_of(expected_mm)).float()
    shape = torch.tensor(key.body.shape)
    centre = expected.round().long().clamp(min=0).minimum(shape - 1)
    found = [np.zeros((0, 3))]
    rows = max(SIMILARITIES // ((2 * reach + 1) ** 3 * vectors_nd.shape[1]), 1)
    for first in range(0, len(centre), rows):
        part = slice(first, first + rows)
        places, score = _near(vectors_nd[part], key, centre[part], reach)
        score = score - pull * ((places - expected[part, None]) ** 2).sum(dim=-1)
        best = places[torch.arange(len(places)), score.argmax(dim=1)]
        found.append(refine(vectors_nd[part], key, best, expected[part], pull))
    return np.concatenate(found)
