"""Settings of the tasks; importing them costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d.config import ComputeConfig, Config, Keys, OutputConfig, Reads, ScanFilesConfig, Writes
from alice3d.engine.settings import LoopSettings, TrainingConfig, backbone_types
from alice3d.plugins import config_named


class BackboneSettings(Config):
    """How a pre-trained backbone is trained with a new head."""

    backbone_lr_scale: Annotated[float, Field(ge=0)] = 0.3
    """Backbone learning-rate multiplier: of a pre-trained backbone relative to the head; 1 from scratch."""
    head_first: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Fraction of the steps in which a pre-trained backbone is frozen while the new head is trained."""
    warm_head: Annotated[int, Field(ge=0)] | None = None
    """The same in steps, followed by a warm-up of the backbone's learning rate; left out, `--head-first` is used."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Layer-wise learning rate decay: rate of each stage relative to the next deeper one; 1 = no decay."""
    freeze_norms: bool = False
    """Freeze the scales and shifts of a pre-trained backbone's normalisation layers."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """EMA decay of the weights; the model has the EMA weights. 0 = the last weights."""


class SegmentationSettings(BackboneSettings):
    """Settings of fine-tuning a segmenter, in addition to those of the loop."""

    structure_weight: Annotated[float, Field(gt=0)] = 4.0
    """Weight of a structure's voxel in the cross-entropy; background's is 1."""


class ClassificationSettings(Config):
    """Settings of training a classifier."""

    classes: Annotated[Path | None, Reads()] = None
    """Classification: CSV with the columns case and class, and x_mm, y_mm, z_mm (RAS) where points are classified."""
    pool: Literal["class", "mean"] = "mean"
    """Classification: the class token, or the mean of the patch tokens."""
    field: Annotated[float, Field(ge=0)] = 0.0
    """Classification: field of view in mm on the longest side; 0 = the crop at the encoder's spacing around a
    point, and the size of the largest training body for whole scans."""
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Classification: maximum random shift of a view's centre, as a fraction of its side."""


class LinearSettings(Config):
    """How the linear head is fitted."""

    ridge: Annotated[float, Field(ge=0)] = 1e-3
    """Linear head: L2 (ridge) penalty of its weights on standardised features."""
    linear_voxels: Annotated[int, Field(ge=16)] = 800
    """Linear head: voxels sampled per view of each structure, of hard and of easy background."""
    linear_views: Annotated[int, Field(ge=1)] = 2
    """Linear head: views per case and round; the first is the scan itself, the others are rotated, scaled and
    intensity-augmented."""
    linear_rounds: Annotated[int, Field(ge=1, le=5)] = 2
    """Linear head: number of fits; each after the first adds background samples where the previous one predicted a
    structure."""
    linear_iterations: Annotated[int, Field(ge=1)] = 40
    """Linear head: L-BFGS steps per round, for each of its two losses."""


def _of_task(values: Mapping[str, Any]) -> type[Config]:
    return config_named(str(values["task"]), "alice3d.tasks.{}.task")


class FinetuneSettings(TrainingConfig, SegmentationSettings, ClassificationSettings, LinearSettings):
    """All settings of fine-tuning a segmenter or a classifier."""

    uncounted: ClassVar[frozenset[str]] = TrainingConfig.uncounted | {
        "store",
        "encoder",
        "classes",
        "validate_every",
        "validate_split",
        "validate_cases",
    }
    store: Annotated[Path, Reads()]
    """Store with labelled cases, made by `alice prepare --labels`."""
    task: str = "segmentation"
    """Task: segmentation, classification, or package.module of your own."""
    task_options: Annotated[dict[str, Any], Keys(_of_task)] = Field(default_factory=dict)
    """Settings of a task of your own, as `--task-options.margin 2`."""
    encoder: Annotated[str | None, Reads()] = None
    """Encoder or matcher to start from (folder, file or shipped name); left out, training starts from scratch."""
    labels: Annotated[int, Field(ge=1)] | None = None
    """Number of patients whose labelled cases are trained on, a seeded random subset of the split; left out, all of
    them. Where each patient has one case, the number of cases."""
    head: Literal["unet", "linear", "both"] = "unet"
    """unet: a decoder with skip connections, all weights are trained; linear: one layer on the frozen encoder, fitted
    in seconds; both: the fitted layer first, then all weights, with the decoder as its correction. A classifier has no
    decoder; with unet or both all its weights are trained."""
    split: str = "train"
    """Split of the labelled training cases."""
    windows: str = "-200:300,-1000:1000"
    """CT windows LOW:HIGH in HU, one channel each; ignored for MR and where an encoder is given."""
    backbone: str = "resunet"
    """Network from scratch: resunet, vit or swin; an encoder has its own."""
    backbone_options: Annotated[dict[str, Any], Keys(backbone_types)] = Field(default_factory=dict)
    """Settings of the network from scratch, as `--backbone_options.size small`."""
    steps: Annotated[int, Field(ge=1)] = 400
    """Optimiser steps; samples are balanced over structures, so that 400 steps of four crops are enough."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Crops or scans per step, over all processes."""
    crop: Annotated[int, Field(ge=0)] = 0
    """Voxels per side of the crops; 0 = 32 (whole scans: 48), or the encoder's own where its tokens have position
    embeddings."""
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    """Peak learning rate of AdamW, of the head and from scratch of all weights."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 15.0
    """Maximum rotation of each crop in degrees, about a random axis."""
    scale_low: Annotated[float, Field(gt=0)] = 0.85
    """Smallest scaling of a crop's voxels."""
    scale_high: Annotated[float, Field(gt=0)] = 1.18
    """Largest scaling of a crop's voxels."""
    strength: Annotated[float, Field(ge=0)] = 0.5
    """Strength of the intensity augmentation, relative to that of pre-training; 0.5 scores higher in short runs."""
    anywhere: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Fraction of the crops at random positions in the body; the others are centred near each structure in turn."""
    mirror: bool = False
    """Flip left and right of every other crop; wrong where a structure is specific to one side."""
    validate_every: Annotated[int, Field(ge=0)] = 0
    """Steps between validations of the current model on a few cases, into log.jsonl; 0 = never. Does not affect
    training."""
    validate_split: str = "val"
    """Split of the validation cases."""
    validate_cases: Annotated[int, Field(ge=1)] = 3
    """Number of validation cases: the same ones for every seed."""
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


class PredictConfig(OutputConfig, ScanFilesConfig, ComputeConfig):
    """`alice predict MODEL SCAN… OUT`."""

    positional: ClassVar[tuple[str, ...]] = ("model", "scans", "out")
    uncounted: ClassVar[frozenset[str]] = frozenset({"model", "scans", "points", "seed"})
    model: Annotated[Path, Reads()]
    """Folder that `alice finetune` wrote."""
    scans: Annotated[list[Path], Reads()]
    """Files, or folders that are searched for scans."""
    points: Annotated[Path | None, Reads()] = None
    """For a classifier of points: CSV with the columns case (a scan's name without extension), x_mm, y_mm, z_mm
    (RAS)."""


class EvaluateConfig(ComputeConfig):
    """`alice evaluate MODEL STORE --split test`."""

    positional: ClassVar[tuple[str, ...]] = ("model", "store")
    uncounted: ClassVar[frozenset[str]] = frozenset({"model", "store", "classes", "allow_seen"})
    model: Annotated[Path, Reads()]
    """Folder that `alice finetune` wrote."""
    store: Annotated[Path, Reads()]
    """Store with labelled cases."""
    classes: Annotated[Path | None, Reads()] = None
    """For a classifier: CSV of the classes; left out, the one that it was trained on."""
    split: str = "test"
    """Split whose labelled cases are scored."""
    tolerance: Annotated[float, Field(gt=0)] | None = None
    """Distance in mm up to which surfaces agree, for NSD; left out, 2, or the longest voxel side of the scored cases
    where that is more: below the voxel NSD hardly tells good from bad."""
    out: Annotated[Path | None, Writes(within={"model": "evaluation*"})] = None
    """Folder for metrics.json and metrics.csv; left out, MODEL/evaluation-SPLIT."""
    allow_seen: bool = False
    """Score cases of a test split although the model or its encoder was trained on them."""
    overwrite: bool = False
    """Replace what an earlier call with other settings left in the output folder."""


class FinetuneConfig(FinetuneSettings):
    """`alice finetune STORE OUT --encoder E --labels N`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")


LOOP = frozenset(LoopSettings.model_fields)
"""Settings that a task uses whose training is `fit`."""
TUNING = frozenset(BackboneSettings.model_fields)
"""Settings that a task uses whose network is trained by `TunedTask`."""
VALIDATION = frozenset({"validate_every", "validate_split", "validate_cases"})
"""Settings that a task uses which gives `fit` what `watched` makes."""
EVERY_TASK = frozenset(
    {
        *OutputConfig.model_fields,
        *ComputeConfig.model_fields,
        *ScanFilesConfig.model_fields,
        *("store", "task", "task_options", "encoder", "labels", "split", "windows", "backbone", "backbone_options"),
        *("licence", "model", "scans", "allow_seen"),
    }
)
"""Settings of `alice finetune`, `evaluate` and `predict` that every task uses."""
