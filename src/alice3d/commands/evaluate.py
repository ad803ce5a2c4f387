"""Score a segmenter or a classifier on a split of a store."""

from __future__ import annotations

from typing import Any

from alice3d.tasks.settings import EvaluateConfig

__all__ = ["EvaluateConfig", "run"]


def run(config: EvaluateConfig) -> dict[str, Any]:
    """Scores of each case and their means with intervals, into OUT."""
    from alice3d.tasks.run import evaluate

    return evaluate(config)
