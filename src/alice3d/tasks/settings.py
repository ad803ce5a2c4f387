"""Settings of the tasks; importing them costs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from alice3d.config import Config


class TrunkSettings(Config):
    """How a pre-trained backbone learns beside a new head."""

    backbone_rate: Annotated[float, Field(ge=0)] = 0.3
    """Learning rate of a pre-trained backbone, as a share of the head's; from scratch all learn at the full rate."""
    head_first: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the steps in which a pre-trained backbone stands still while the new head learns."""
    warm_head: Annotated[int, Field(ge=0)] | None = None
    """The same in steps, after which the backbone's rate rises from zero; left out, `--head-first` decides."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Rate of each stage of a pre-trained backbone as a share of the next deeper one's; 1 = all alike."""
    freeze_norms: bool = False
    """Keep the scales and shifts of a pre-trained backbone's normalisation layers as they are."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Momentum of the moving average of the weights, which becomes the model; 0 = the last weights."""


class SegmentationSettings(TrunkSettings):
    """What fine-tuning a segmenter adds to the loop's settings."""

    structure_weight: Annotated[float, Field(gt=0)] = 4.0
    """Weight of a structure's voxel in the cross-entropy; background's is 1."""


class ClassificationSettings(Config):
    """What learning to classify adds."""

    classes: Path | None = None
    """Classification: CSV with the columns case and class, and x_mm, y_mm, z_mm (RAS) where points are classified."""
    pool: Literal["class", "mean"] = "mean"
    """Classification: the class token, or the mean of the patch tokens."""
    field: Annotated[float, Field(ge=0)] = 0.0
    """Classification: millimetres that are seen on the longest side; 0 = the crop at the encoder's spacing around a
    point, and what holds the largest training body for whole scans."""
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Classification: a view's centre moves by up to this share of its side."""


class LinearSettings(Config):
    """How the linear head is found."""

    ridge: Annotated[float, Field(ge=0)] = 1e-3
    """Linear head: weight of the squared norm of its weights on standardised features."""
    linear_voxels: Annotated[int, Field(ge=16)] = 800
    """Linear head: voxels drawn a view of each structure, of hard and of easy background."""
    linear_views: Annotated[int, Field(ge=1)] = 2
    """Linear head: views a case and round; the first is the scan itself, the others are turned, scaled and re-lit."""
    linear_rounds: Annotated[int, Field(ge=1, le=5)] = 2
    """Linear head: solutions; each after the first draws background where the one before saw a structure."""
    linear_iterations: Annotated[int, Field(ge=1)] = 40
    """Linear head: steps of L-BFGS a round, for each of its two losses."""
