"""Settings of the tasks; importing them costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d.config import ComputeConfig, Config, Keys, OutputConfig
from alice3d.engine.settings import TrainingConfig, backbone_types
from alice3d.plugins import config_named


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


def _of_task(values: Mapping[str, Any]) -> type[Config]:
    return config_named(str(values["task"]), "alice3d.tasks.{}.task")


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
    task: str = "segmentation"
    """What to learn: segmentation, classification, or package.module of your own."""
    task_options: Annotated[dict[str, Any], Keys(_of_task)] = Field(default_factory=dict)
    """Settings of a task of your own, as `--task-options.margin 2`."""
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
    backbone_options: Annotated[dict[str, Any], Keys(backbone_types)] = Field(default_factory=dict)
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

    def settings(self, **inputs: Any) -> dict[str, Any]:
        """See `CommandConfig.settings`; `task_options` count where there are any: early runs have no such key."""
        return self._without_empty(super().settings(**inputs))

    def written(self) -> dict[str, Any]:
        """Plain values for config.yaml."""
        return self._without_empty(self.model_dump(mode="json"))

    @staticmethod
    def _without_empty(values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key != "task_options" or value}


class PredictConfig(OutputConfig, ComputeConfig):
    """`alice predict MODEL SCAN… OUT`."""

    positional: ClassVar[tuple[str, ...]] = ("model", "scans", "out")
    uncounted: ClassVar[frozenset[str]] = frozenset({"model", "scans", "points", "seed"})
    model: Path
    """Folder that `alice finetune` wrote."""
    scans: list[Path]
    """Files, or folders that are searched for them."""
    points: Path | None = None
    """For a classifier of points: CSV with the columns case (a scan's name without ending), x_mm, y_mm, z_mm (RAS)."""


class EvaluateConfig(ComputeConfig):
    """`alice evaluate MODEL STORE --split test`."""

    positional: ClassVar[tuple[str, ...]] = ("model", "store")
    uncounted: ClassVar[frozenset[str]] = frozenset({"model", "store", "classes", "allow_seen"})
    model: Path
    """Folder that `alice finetune` wrote."""
    store: Path
    """Store with labelled cases."""
    classes: Path | None = None
    """For a classifier: CSV of the classes; left out, the one that it learnt from."""
    split: str = "test"
    """Split whose labelled cases are scored."""
    tolerance: Annotated[float, Field(gt=0)] = 2.0
    """Distance in mm up to which surfaces agree, for NSD."""
    out: Path | None = None
    """Folder for metrics.json and metrics.csv; left out, MODEL/evaluation-SPLIT."""
    allow_seen: bool = False
    """Score cases that the model or its encoder saw in training, although they lie in a split for testing."""
    overwrite: bool = False
    """Replace what an earlier call with other settings left in the output folder."""


class FinetuneConfig(FinetuneSettings):
    """`alice finetune STORE OUT --encoder E --labels N`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")
