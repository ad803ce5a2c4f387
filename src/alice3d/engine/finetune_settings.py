"""Settings of fine-tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d.engine.settings import TrainingConfig
from alice3d.tasks.settings import ClassificationSettings, LinearSettings, SegmentationSettings


class FinetuneSettings(TrainingConfig, SegmentationSettings, ClassificationSettings, LinearSettings):
    """Everything that makes a segmenter or a classifier out of labelled cases."""

    uncounted: ClassVar[frozenset[str]] = TrainingConfig.uncounted | {
        "store",
        "encoder",
        "classes",
        "validate_every",
        "validate_split",
        "validate_cases",
    }
    store: Path
    """Store with labelled cases, made by `alice prepare --labels`."""
    task: Literal["segmentation", "classification"] = "segmentation"
    """What to learn."""
    encoder: str | None = None
    """Encoder or matcher to start from (folder, file or shipped name); left out, the net learns from scratch."""
    labels: Annotated[int, Field(ge=1)] | None = None
    """Number of labelled cases to learn from, a seeded draw of the split; left out, all of them."""
    head: Literal["unet", "linear", "both"] = "unet"
    """unet: a decoder with skips, all weights learn; linear: one layer on the frozen encoder, solved in seconds; both:
    the solved layer first, then all weights learn, the decoder as a correction of it. A classifier has no decoder, with
    unet or both all its weights learn."""
    split: str = "train"
    """Split that labelled cases come from."""
    windows: str = "-200:300,-1000:1000"
    """CT windows LOW:HIGH in HU, one channel each; ignored for MR and where an encoder is given."""
    backbone: str = "resunet"
    """Network from scratch: resunet, vit or swin; an encoder brings its own."""
    backbone_options: dict[str, Any] = Field(default_factory=dict)
    """Settings of the network from scratch, as `--backbone_options.size small`."""
    steps: Annotated[int, Field(ge=1)] = 400
    """Optimiser steps; samples are balanced over structures, so that 400 steps of four crops do."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Crops or scans a step, over all processes."""
    crop: Annotated[int, Field(ge=0)] = 0
    """Voxels a side of the crops; 0 = 32 (whole scans: 48), or the encoder's own where its tokens carry positions."""
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    """Highest learning rate of AdamW, of the head and from scratch of all."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Each crop is turned by up to this many degrees about a random axis."""
    scale_low: Annotated[float, Field(gt=0)] = 0.85
    """Smallest scaling of a crop's voxels."""
    scale_high: Annotated[float, Field(gt=0)] = 1.18
    """Largest scaling of a crop's voxels."""
    strength: Annotated[float, Field(ge=0)] = 0.5
    """Strength of the intensity changes, as a share of those of pre-training; in short runs half of them score more."""
    anywhere: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the crops that lie anywhere in the body; the others are centred near each structure in turn."""
    mirror: bool = False
    """Flip left and right of every other crop; wrong where a structure has a side."""
    validate_every: Annotated[int, Field(ge=0)] = 0
    """Score the model so far on a few cases every so many steps, into log.jsonl; 0 = never. Training is the same."""
    validate_split: str = "val"
    """Split that those cases come from."""
    validate_cases: Annotated[int, Field(ge=1)] = 3
    """Number of those cases: always the same ones, whatever the seed."""
    licence: str = "unknown"
    """Licence of the scans, kept in the card of the model."""
