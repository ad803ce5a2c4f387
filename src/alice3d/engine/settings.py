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
    """Length, learning rate and checkpoints of a run."""

    steps: Annotated[int, Field(ge=1)] = 2000
    """Optimiser steps."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Samples per step, over all processes; a self-supervised sample is a pair of crops."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate of AdamW, reached after the warm-up, then falling along a cosine."""
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Final learning rate as a fraction of the peak."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Fraction of the steps in which the learning rate rises linearly."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.04
    """Weight decay of AdamW, on matrices only: not on biases, scales or tokens."""
    weight_decay_end: Annotated[float, Field(ge=0)] | None = None
    """Weight decay at the last step, reached along a cosine; left out, it is constant."""
    clip: Annotated[float, Field(gt=0)] = 3.0
    """Maximum gradient norm; larger gradients are scaled down."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Gradient accumulation: compute each batch in this many parts, one after another, to save memory. What is computed
    over a batch sees one part: targets of `alice`, soft Dice, batch normalisation; docs/how-to/many-devices.md."""
    shard_weights: bool = False
    """Under torchrun, split weights and optimiser state over the devices (FSDP), for networks too large for one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """fp32, bf16 (autocast), or auto: bf16 where the GPU or CPU supports it in hardware."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Threads that prefetch samples; 0 reads without prefetching. The samples do not depend on it."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 200
    """Steps between checkpoints; at most this many steps are lost when the run is killed."""


class TrainingConfig(OutputConfig, ComputeConfig, LoopSettings):
    """A command that trains into an output folder."""

    uncounted: ClassVar[frozenset[str]] = frozenset({"workers", "checkpoint_every", "shard_weights"})
