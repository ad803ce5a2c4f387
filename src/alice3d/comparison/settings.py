"""Settings of a comparison; importing them costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from alice3d.config import ComputeConfig, Config, Keys, OutputConfig, Reads
from alice3d.pretraining.settings import PretrainConfig
from alice3d.tasks.settings import FinetuneConfig, LinearSettings

MEASURES = ("linear", "knn", "landmark", "finetune")


class ArmSettings(PretrainConfig):
    """What an entry of `arms` may say: settings of `alice pretrain` that the comparison leaves open, and two more."""

    recipe: str | None = None
    """Name of a shipped recipe that the arm is trained by."""
    encoder: Annotated[str | None, Reads()] = None
    """Encoder that exists, in place of training one; then nothing else can be given."""


def _of_arms(values: Mapping[str, Any]) -> dict[str, type[Config]]:
    return dict.fromkeys(values["arms"], ArmSettings)


class CompareConfig(OutputConfig, ComputeConfig):
    """`alice compare STORE OUT --methods alice,mae,scratch --labels 2,5 --seeds 0,1,2`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "out")
    uncounted: ClassVar[frozenset[str]] = frozenset(
        {"store", "pairs", "landmarks", "init", "arms", "methods", "labels", "seeds", "measures", "finetune_arms"}
        | {"reference", "finetune", "allow_seen"}
    )
    store: Annotated[Path, Reads()]
    """Store with labelled cases, made by `alice prepare --labels`."""
    methods: list[str] = Field(default_factory=list)
    """Arms by their method: a name of `alice methods`, all (every one that the backbone can learn by), package.module
    of your own, a recipe's name, scratch (random weights, otherwise like the other arms), or init (the shared warm
    start without further training)."""
    arms: Annotated[dict[str, dict[str, Any]], Keys(_of_arms)] = Field(default_factory=dict)
    """In a YAML: arm name to its `method` or `recipe` or `encoder` (one that exists), and any setting of
    `alice pretrain` in which it differs from the others; of scratch backbone, backbone_options, windows and crop."""
    labels: list[Annotated[int, Field(ge=1)]] = Field(default_factory=lambda: [5])
    """Numbers of patients with labelled cases, comma separated; each seed has another random subset."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default_factory=lambda: [0, 1, 2])
    """Seeds, comma separated: of initial weights, crops and the subset of labelled cases, the same for every arm."""
    measures: list[str] = Field(default_factory=lambda: ["linear"])
    """Measures, comma separated: linear, knn, landmark (seconds each), finetune (minutes)."""
    finetune_arms: list[str] = Field(default_factory=list)
    """Arms that are fine-tuned, where finetune is measured; left out, all."""
    pairs: Annotated[Path | None, Reads()] = None
    """Pairs table, made by `alice pair`, for arms trained on matched partners."""
    landmarks: Annotated[Path | None, Reads()] = None
    """CSV with the columns case, structure, x_mm, y_mm, z_mm (RAS), for the measure landmark."""
    init: Annotated[str | None, Reads()] = None
    """Encoder or matcher that every trained arm starts from: a shared warm start."""
    split: str = "val"
    """Split whose cases are scored."""
    train_split: str = "train"
    """Split that labelled training cases come from."""
    pretrain: Annotated[dict[str, Any], Keys(lambda values: PretrainConfig)] = Field(default_factory=dict)
    """Settings of `alice pretrain` for every arm, as `--pretrain.steps 200`; they override those of a recipe."""
    finetune: Annotated[dict[str, Any], Keys(lambda values: FinetuneConfig)] = Field(default_factory=dict)
    """Settings of `alice finetune` for every arm, as `--finetune.steps 400`."""
    linear: Annotated[dict[str, Any], Keys(lambda values: LinearSettings)] = Field(default_factory=dict)
    """Settings of the linear head, as `--linear.linear_views 1`."""
    neighbours: Annotated[int, Field(ge=1)] = 15
    """k of k-NN, for the measure knn."""
    reference: str = ""
    """Arm that the others are tested against; left out, the first."""
    allow_seen: bool = False
    """Score cases of a test split although an encoder was pre-trained on them."""
