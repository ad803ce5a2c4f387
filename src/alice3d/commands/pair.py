"""Match points between patients, check them, and write the table from which training samples matched crops."""

from __future__ import annotations

from typing import Any

from alice3d.matching.settings import PairConfig

__all__ = ["PairConfig", "run"]


def run(config: PairConfig) -> dict[str, Any]:
    """Sanity checks, embeddings, matches, table, quality report."""
    from alice3d.matching.pairing import make_pairs
    from alice3d.report.matching_page import draw_quality

    return make_pairs(config, draw=draw_quality)
