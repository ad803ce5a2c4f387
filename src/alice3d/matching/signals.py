"""What can be seen of a match without knowing the truth: the numbers from which its error is foretold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.pairs.correspondence import Correspondence
from alice3d.geometry import Grid
from alice3d.matching.embedding import EmbeddedScan

Signals = dict[str, NDArray[np.float64]]
"""Name of `SIGNALS` to (n,)."""
SIGNALS = {
    "similarity": "mean cosine of the point's and the match's embeddings, -1 .. 1",
    "cycle_mm": "distance from the point after matching the match back",
    "edge_mm": "how far the point lies beyond the faces of its own scan; negative inside",
    "beyond_mm": "how far the match (of a map: the place it foretells) lies beyond the faces of the key scan",
    "apart_mm": "distance of the direct match from the answer (of a row of the pairs table: from the other rows' map)",
    "certainty": "of the fitted map at the point, 0 .. 1",
}
"""The last two need a map between the scans."""


def beyond_mm(grid: Grid, points_mm: NDArray[Any]) -> NDArray[np.float64]:
    """How far points (n, 3) RAS mm lie beyond the nearest of a scan's six faces, in mm; negative inside."""
    index = grid.index(points_mm)
    over = np.maximum(-0.5 - index, index - (np.asarray(grid.shape) - 0.5)) * grid.spacing_mm
    farthest: NDArray[np.float64] = over.max(axis=1)
    return farthest


def place_signals(
    query: EmbeddedScan,
    key: EmbeddedScan,
    points_mm: NDArray[Any],
    found_mm: NDArray[Any],
    field: Correspondence | None,
) -> Signals:
    """The signals of where things lie; all but `similarity`, `cycle_mm` and `apart_mm`.

    Args:
        points_mm, found_mm: (n, 3) RAS mm in the query and in the key.
        field: the map between them; None leaves its signals out.
    """
    points = np.asarray(points_mm, np.float64)
    edge = beyond_mm(query.grid, points)
    if field is None:
        return {"edge_mm": edge, "beyond_mm": beyond_mm(key.grid, found_mm)}
    return {"edge_mm": edge, "beyond_mm": beyond_mm(key.grid, field.map(points)), "certainty": field.certainty(points)}
