"""Train a matcher that finds the same anatomy in another scan."""

from __future__ import annotations

from typing import Any

from alice3d.pretraining.settings import TrainMatcherConfig

__all__ = ["TrainMatcherConfig", "run"]


def run(config: TrainMatcherConfig) -> dict[str, Any]:
    """Train, then write matcher.safetensors and its card, and the curves."""
    from alice3d.pretraining.matcher import train_matcher
    from alice3d.report.matching_page import draw_quality
    from alice3d.report.run_page import drawn_at_the_end

    return train_matcher(config, around=drawn_at_the_end, draw=draw_quality)
