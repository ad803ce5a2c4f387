"""Settings of the training loop, shared by every command that trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d.config import ComputeConfig, Config, OutputConfig


def backbone_types(values: Mapping[str, Any]) -> dict[str, Any]:
    """Types of `backbone_options`: of the network that is named, or that the weights to start from are of."""
    from alice3d.nn.backbones.registry import option_types
    from alice3d.weights.files import find_weights, read_card

    name = str(values["backbone"])
    if values.get("init") is not None:
        weights = find_weights(str(values["init"]), "encoder", "matcher")
        name = read_card(weights, "matcher" if weights.name.startswith("matcher") else "encoder")["backbone"]["name"]
    return option_types(name)


class LoopSettings(Config):
    """How long, how fast and how often."""

    steps: Annotated[int, Field(ge=1)] = 2000
    """Optimiser steps."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Samples a step, over all processes; a self-supervised sample is a pair of crops."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Highest learning rate of AdamW, reached after the warm-up, then falling along a cosine."""
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Learning rate at the last step, as a share of the highest."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the steps in which the learning rate rises."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.04
    """Weight decay of AdamW, on matrices only: neither vectors nor tokens."""
    weight_decay_end: Annotated[float, Field(ge=0)] | None = None
    """Weight decay at the last step, reached along a cosine; left out, it stays as it is."""
    clip: Annotated[float, Field(gt=0)] = 3.0
    """Gradients of a greater norm are scaled down to it."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Compute each batch in this many parts, one after another: so much less memory, the same step."""
    shard_weights: bool = False
    """Under torchrun, split weights and optimiser state over the devices (FSDP), for networks that fill one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """fp32, bf16 (autocast), or auto: bf16 where the GPU or CPU multiplies it in hardware."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Threads that read samples ahead; 0 reads when they are needed. The samples do not depend on it."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 200
    """Steps between checkpoints; at most this many are lost when the run is killed."""


class TrainingConfig(OutputConfig, ComputeConfig, LoopSettings):
    """A command that trains into an output folder."""

    uncounted: ClassVar[frozenset[str]] = frozenset({"workers", "checkpoint_every", "shard_weights"})
