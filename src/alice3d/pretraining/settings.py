"""Settings of self-supervised training; importing them costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d.config import Config, Keys, Reads
from alice3d.engine.settings import TrainingConfig, backbone_types


class SelfSupervisedSettings(TrainingConfig):
    """What `train-matcher` and `pretrain` share."""

    uncounted: ClassVar[frozenset[str]] = TrainingConfig.uncounted | {
        "store",
        "pairs",
        "init",
        "monitor_every",
        "on_collapse",
    }
    store: Annotated[Path, Reads()]
    """Store of scans, made by `alice prepare`."""
    split: str = "auto"
    """Splits to learn from, comma separated; auto: pretrain and train, or all where no scan is in a split."""
    pairs: Annotated[Path | None, Reads()] = None
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
    backbone_options: Annotated[dict[str, Any], Keys(backbone_types)] = Field(default_factory=dict)
    """Settings of the network, as `--backbone_options.size small`."""
    init: Annotated[str | None, Reads()] = None
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


def _of_method(values: Mapping[str, Any]) -> type[Config]:
    from alice3d.methods.base import find_method

    return find_method(str(values["method"])).Config


class PretrainConfig(SelfSupervisedSettings):
    """`alice pretrain STORE OUT --method alice --pairs PAIRS`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")
    uncounted: ClassVar[frozenset[str]] = SelfSupervisedSettings.uncounted | {
        "probe_every",
        "probe_split",
        "probe_cases",
        "landmarks",
    }
    method: str = "alice"
    """Objective: a name of `alice methods`, or package.module of your own."""
    options: Annotated[dict[str, Any], Keys(_of_method)] = Field(default_factory=dict)
    """Settings of the objective, as `--options.dense_weight 0`; the reference lists them."""
    partner: Literal["auto", "same", "matched", "random"] = "auto"
    """Where the second crop comes from; auto: matched where `--pairs` is given, else the same scan."""
    mask_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Share of the patches that are masked: the encoder does not see them."""
    mask_block: Annotated[int, Field(ge=1)] = 1
    """Block masking: patches are masked together in cubes of this side; 1 = each on its own."""
    mask_regions: bool = False
    """Masks follow anatomy: patches that are near each other and alike are masked together, about `mask_block`³ at a
    time."""
    probe_every: Annotated[int, Field(ge=0)] = 0
    """Steps between probes of the frozen features on a few labelled cases (nearest neighbours) and, with
    `--landmarks`, by landmark retrieval in mm; 0 = never. Each costs about two steps at 4 mm."""
    probe_split: str = "val"
    """Split of the cases that are probed; choose on it, and keep the test split for the end."""
    probe_cases: Annotated[int, Field(ge=2)] = 4
    """Cases that are probed."""
    landmarks: Annotated[Path | None, Reads()] = None
    """CSV with the columns case, structure, x_mm, y_mm, z_mm (RAS), for the probe."""


def _of_sam(values: Mapping[str, Any]) -> type[Config]:
    from alice3d.methods.sam import SAMConfig

    return SAMConfig


class TrainMatcherConfig(SelfSupervisedSettings):
    """`alice train-matcher STORE OUT`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Highest learning rate of AdamW, reached after the warm-up, then falling along a cosine."""
    rounds: Annotated[int, Field(ge=1, le=10)] = 1
    """Rounds of `steps` each: every later one goes on from the pairs of patients that the one before matched."""
    round_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Highest learning rate of the later rounds, as a share of the first one's."""
    scan_pairs: Annotated[int, Field(ge=0)] = 0
    """Pairs of scans matched between rounds; 0 = two for each scan."""
    options: Annotated[dict[str, Any], Keys(_of_sam)] = Field(default_factory=dict)
    """Settings of the objective, as `--options.temperature 0.1`; the reference lists them."""
    mode: Literal["direct", "robust"] = "robust"
    """How the matcher is meant to be used: each point by itself, or with a robust fit over many points."""
    backbone_maps: bool = True
    """Join the backbone's own maps, standardised over the bodies of some scans, to the embedding: matches are nearer,
    embeddings 3.5 times as large."""
