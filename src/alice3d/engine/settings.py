"""Settings of the training loop, shared by every command that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d.config import ComputeConfig, Config, OutputConfig


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
    precision: Annotated[str, Field(pattern="^(auto|fp32|bf16)$")] = "auto"
    """fp32, bf16 (autocast), or auto: bf16 where the GPU or CPU multiplies it in hardware."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Threads that read samples ahead; 0 reads when they are needed. The samples do not depend on it."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 200
    """Steps between checkpoints; at most this many are lost when the run is killed."""


class TrainingConfig(OutputConfig, ComputeConfig, LoopSettings):
    """A command that trains into an output folder."""

    uncounted: ClassVar[frozenset[str]] = frozenset({"workers", "checkpoint_every", "shard_weights"})


class SelfSupervisedSettings(TrainingConfig):
    """What `train-matcher` and `pretrain` share."""

    uncounted: ClassVar[frozenset[str]] = TrainingConfig.uncounted | {
        "store",
        "pairs",
        "init",
        "monitor_every",
        "on_collapse",
    }
    store: Path
    """Store of scans, made by `alice prepare`."""
    split: str = "auto"
    """Splits to learn from, comma separated; auto: pretrain and train where the store has them, else all."""
    pairs: Path | None = None
    """Pairs table, made by `alice pair`; crops then come from matched places of two patients."""
    matched_share: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Share of the samples that are matched pairs where a table is given; the rest are two crops of one scan."""
    local_affine: bool = False
    """Take the key crop of a matched pair in the query's orientation and scale, as the pair's map says, instead of
    moving it alone."""
    windows: str = "-200:300,-1000:1000"
    """CT windows LOW:HIGH in HU, one channel each; ignored for MR."""
    backbone: str = "resunet"
    """Network: resunet, vit or swin; docs/concepts/backbones.md says which when."""
    backbone_options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the network, as `--backbone_options.size small`."""
    init: str | None = None
    """Encoder or matcher (folder, file or shipped name) whose weights to start from."""
    crop: Annotated[int, Field(ge=8)] = 48
    """Voxels a side of the crops."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Each crop is turned by up to this many degrees about a random axis."""
    scale_low: Annotated[float, Field(gt=0)] = 0.8
    """Smallest scaling of a crop's voxels."""
    scale_high: Annotated[float, Field(gt=0)] = 1.25
    """Largest scaling of a crop's voxels."""
    points: Annotated[int, Field(ge=1)] = 256
    """Corresponding points a pair of crops, for contrast."""
    candidates: Annotated[int, Field(ge=1)] = 2048
    """Points of a crop that serve as negatives."""
    monitor_every: Annotated[int, Field(ge=0)] = 50
    """Steps between looks at the features of a few crops that training leaves out: their spread, rank and agreement,
    and how far the moving average lags; 0 = never. Each costs about an eighth of a step."""
    on_collapse: Literal["stop", "warn", "ignore"] = "stop"
    """What to do when the features or the prototypes have collapsed: stop with a checkpoint kept, warn, or nothing."""
    licence: str = "unknown"
    """Licence of the scans, kept in the card of the weights."""
