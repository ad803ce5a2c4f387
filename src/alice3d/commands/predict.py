"""Segment or classify scans: a label map per scan, in each scan's own grid, or a table of class scores."""

from __future__ import annotations

from typing import Any

from alice3d.tasks.settings import PredictConfig

__all__ = ["PredictConfig", "run"]


def run(config: PredictConfig) -> dict[str, Any]:
    """Write predictions into OUT; a faulty scan is reported and the others are processed."""
    from alice3d.tasks.run import predict

    return predict(config)
