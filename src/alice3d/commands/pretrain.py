"""Pre-train an encoder without labels: Alice, or another objective."""

from __future__ import annotations

from typing import Any

from alice3d.pretraining.settings import PretrainConfig

__all__ = ["PretrainConfig", "run"]


def run(config: PretrainConfig) -> dict[str, Any]:
    """Train, then write encoder.safetensors and its card, and the curves."""
    from alice3d.pretraining.pretrain import pretrain
    from alice3d.report.run_page import drawn_at_the_end

    return pretrain(config, around=drawn_at_the_end)
