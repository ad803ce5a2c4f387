"""The calls whose results are compared: every command that computes, at tiny scale, by its older option names.

All paths are relative to the folder in which the calls are made, so that none of the two sides' folders is in a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One call.

    Attributes:
        name: unique.
        words: of the command line after `alice`; empty for `inputs.py`.
        makes: files and folders that are removed before the call is made again.
    """

    name: str
    words: tuple[str, ...]
    makes: tuple[str, ...]


def grouped(name: str, values: Mapping[str, object]) -> tuple[str, ...]:
    """`--name.key value` for each."""
    return tuple(word for key, value in values.items() for word in (f"--{name}.{key}", str(value)))


def options(text: str) -> tuple[str, ...]:
    """Words of a command line without quotes."""
    return tuple(text.split())


COMPUTE = options("--device cpu --threads 1 --seed 0")
RESUNET = grouped("backbone-options", {"widths": "8,16,24,32", "blocks": "1,1,1"})
VIT = options("--backbone vit") + grouped("backbone-options", {"width": 24, "depth": 2, "heads": 2})
SWIN = options("--backbone swin") + grouped(
    "backbone-options", {"width": 6, "depths": "1,1,1", "heads": "1,2,2", "window": 4}
)
CROPS = options("--batch 2 --crop 24 --points 64 --candidates 256")
OFTEN = options("--monitor-every 3 --checkpoint-every 4")
SELDOM = options("--monitor-every 10 --checkpoint-every 20")
HEADS = grouped("options", {"decoder_width": 32, "prototypes": 32, "hidden": 32, "bottleneck": 16})
BEYOND = grouped(
    "options",
    {"casa_heads": 2, "dense_from": "decoder", "koleo_weight": 0.1, "predictor": "true", "local_views": 1}
    | {"downstream": "target"},
)
LINEAR = options("--linear-voxels 100 --linear-views 1 --linear-iterations 8")
LANDMARKS = options("--landmarks scans/landmarks.csv")
HEART_MM = "-25.554,19.728,-81.999"
"""RAS mm of the heart of the first scan in `few`."""


def call(name: str, text: str, *more: tuple[str, ...], makes: str = "", computes: bool = True) -> Step:
    """A step: its words, then groups of them, then what every call that computes is given."""
    words = options(text) + tuple(word for group in more for word in group)
    return Step(name, words + (COMPUTE if computes else ()), options(makes))


STORE = [
    Step("inputs", (), options("scans few example.csv points.csv few_points.csv whole.csv")),
    call(
        "prepare",
        "prepare scans/images store --labels scans/labels --splits scans/splits.json --spacing 8",
        options("--label-names scans/label_names.json"),
        makes="store",
        computes=False,
    ),
    call("prepare-whole", "prepare few store-whole --spacing 10,9,12 --crop none", makes="store-whole", computes=False),
    call("inspect", "inspect store --page inspect.html", makes="inspect.html", computes=False),
]
MATCHER = [
    call("train-matcher", "train-matcher store matcher --steps 30 --no-trunk", CROPS, SELDOM, RESUNET, makes="matcher"),
    call(
        "train-matcher-rounds",
        "train-matcher store rounds --rounds 2 --scan-pairs 3 --steps 16",
        CROPS,
        SELDOM,
        RESUNET,
        makes="rounds",
    ),
    call(
        "evaluate-matcher",
        "evaluate-matcher matcher store --split test,val --cuts 1 --out matching.json",
        LANDMARKS,
        makes="matching.json",
    ),
    call("calibrate-matcher", "calibrate-matcher rounds store --split train --cuts 1", LANDMARKS),
    call(
        "pair",
        "pair store rounds pairs --csv --points 100 --scan-pairs 6 --keep-embeddings --embeddings fp32",
        makes="pairs",
    ),
    call(
        "match",
        f"match headneck-ct few/phantom_009.nii.gz few/phantom_010.nii.gz --point {HEART_MM} --picture match.png",
        makes="match.png",
    ),
    call("landmarks", "landmarks matcher few found --landmarks example.csv", makes="found"),
    call(
        "propagate",
        "propagate matcher few propagated --atlases store --atlas-split train --count 2 --vote 0.2",
        makes="propagated",
    ),
]
PRETRAINING = [
    call(
        "pretrain-alice",
        "pretrain store encoder --method alice --steps 6 --pairs pairs --init matcher --hidden-share 0.7",
        options("--probe-every 3 --accumulate 2"),
        LANDMARKS,
        CROPS,
        OFTEN,
        HEADS,
        makes="encoder",
    ),
    call(
        "pretrain-vit",
        "pretrain store encoder-vit --method alice --steps 4 --pairs pairs --local-affine",
        CROPS,
        OFTEN,
        HEADS,
        BEYOND,
        VIT,
        makes="encoder-vit",
    ),
    call(
        "pretrain-mae",
        "pretrain store encoder-mae --method mae --steps 4 --mask-block 2 --partner random",
        CROPS,
        OFTEN,
        RESUNET,
        grouped("options", {"decoder_width": 32}),
        makes="encoder-mae",
    ),
    call(
        "pretrain-swin",
        "pretrain store encoder-swin --method mae --steps 4 --mask-regions",
        CROPS,
        OFTEN,
        SWIN,
        grouped("options", {"decoder_width": 32}),
        makes="encoder-swin",
    ),
    call(
        "probe", "probe encoder store --labels 2 --split test --out probe.json", LANDMARKS, LINEAR, makes="probe.json"
    ),
]
SEGMENTATION = [
    call(
        "finetune-unet",
        "finetune store model --encoder encoder --labels 2 --steps 24 --batch 2 --crop 24 --learning-rate 0.02",
        options("--average 0.5 --layer-decay 0.7 --validate-every 12 --validate-cases 1 --checkpoint-every 12"),
        makes="model",
    ),
    call(
        "finetune-linear",
        "finetune store model-linear --encoder encoder-swin --labels 2 --head linear",
        LINEAR,
        makes="model-linear",
    ),
    call(
        "finetune-both",
        "finetune store model-both --encoder encoder-vit --labels 2 --head both --steps 4 --batch 2 --warm-head 1",
        LINEAR,
        makes="model-both",
    ),
    call("evaluate-unet", "evaluate model store", makes="model/evaluation-test"),
    call("evaluate-linear", "evaluate model-linear store --split val", makes="model-linear/evaluation-val"),
    call("evaluate-both", "evaluate model-both store --out scores-both", makes="scores-both"),
    call("predict", "predict model-linear few predicted", makes="predicted"),
]
CLASSIFICATION = [
    call(
        "finetune-points",
        "finetune store points --task classification --classes points.csv --encoder encoder --head linear --crop 16",
        options("--linear-iterations 5"),
        makes="points",
    ),
    call(
        "finetune-whole",
        "finetune store whole --task classification --classes whole.csv --encoder encoder-vit --pool class --steps 4",
        options("--batch 2 --crop 24 --validate-every 2"),
        makes="whole",
    ),
    call("evaluate-points", "evaluate points store", makes="points/evaluation-test"),
    call("evaluate-whole", "evaluate whole store", makes="whole/evaluation-test"),
    call("predict-points", "predict points few predicted-points --points few_points.csv", makes="predicted-points"),
    call("predict-whole", "predict whole few predicted-whole", makes="predicted-whole"),
]
COMPARISON = [
    call(
        "compare",
        "compare store comparison --methods alice,mae --seeds 0 --labels 2 --split test --init matcher --pairs pairs",
        options("--measures linear,knn,landmark,finetune --finetune-arms alice"),
        LANDMARKS,
        grouped("pretrain", {"steps": 2, "batch": 2, "crop": 16, "points": 32, "candidates": 64, "monitor_every": 0}),
        grouped("linear", {"linear_voxels": 50, "linear_views": 1, "linear_iterations": 4, "linear_rounds": 1}),
        grouped("finetune", {"steps": 2, "batch": 2, "crop": 16}),
        makes="comparison",
    ),
]
STEPS = [*STORE, *MATCHER, *PRETRAINING, *SEGMENTATION, *CLASSIFICATION, *COMPARISON]
