"""Fine-tune an encoder, or train a network from scratch, into a segmenter or a classifier."""

from __future__ import annotations

from typing import Any

from alice3d.tasks.settings import FinetuneConfig

__all__ = ["FinetuneConfig", "run"]


def run(config: FinetuneConfig) -> dict[str, Any]:
    """Train, then write model.safetensors and its card."""
    from alice3d.tasks.run import finetune

    return finetune(config)
