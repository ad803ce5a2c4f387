"""Evaluate an encoder's frozen features: linear Dice, k-NN accuracy, landmark retrieval in mm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from alice3d import console
from alice3d.config import ComputeConfig, Reads, Writes, nearest
from alice3d.errors import UserError
from alice3d.tasks.settings import LinearSettings
from alice3d.version import PROGRAM

if TYPE_CHECKING:
    from alice3d.data.store import Case, Store
    from alice3d.data.tables.landmarks import Landmarks

MEASURES = ("linear", "knn", "landmark")


class ProbeConfig(ComputeConfig, LinearSettings):
    """`alice probe ENCODER STORE --labels 5 --landmarks CSV`."""

    positional: ClassVar[tuple[str, ...]] = ("encoder", "store")
    encoder: Annotated[str, Reads()]
    """Encoder or matcher: a folder or file, or the name of a shipped one."""
    store: Annotated[Path, Reads()]
    """Store of scans, made by `alice prepare`."""
    labels: Annotated[int, Field(ge=0)] = 5
    """Patients whose labelled cases are for the linear head and k-NN, the same random subset as in `alice finetune`; 0
    takes all."""
    train_split: str = "train"
    """Split that these cases come from."""
    split: str = "val"
    """Split that is evaluated."""
    landmarks: Annotated[Path | None, Reads()] = None
    """CSV with the columns case, structure, x_mm, y_mm, z_mm (RAS), for landmark retrieval."""
    measures: list[str] = Field(default_factory=list)
    """Any of linear, knn, landmark, comma separated; left out, all that store and landmarks allow."""
    neighbours: Annotated[int, Field(ge=1)] = 15
    """k of k-NN: number of nearest neighbours."""
    baselines: bool = True
    """Also evaluate an encoder of the same architecture with random weights."""
    allow_seen: bool = False
    """Evaluate cases of a test split although the encoder was pre-trained on them."""
    out: Annotated[Path | None, Writes(file=True)] = None
    """Write the result as JSON to this file, too."""


def run(config: ProbeConfig) -> dict[str, Any]:
    """Measure; returns the keys of `--json`."""

    from alice3d.data.store import Store
    from alice3d.device import resolve_device
    from alice3d.evaluation.features import read_encoder
    from alice3d.evaluation.probe import probe_encoder
    from alice3d.evaluation.retrieval import describe_errors
    from alice3d.files import json_text, write_text
    from alice3d.tasks.cases import patients_of, unlearnt
    from alice3d.weights.provenance import NOT_FOR_TESTING, guard

    store = Store.open(config.store)
    backbone, reading, card = read_encoder(config.encoder, resolve_device(config.device, config.threads))
    measures, train, cases, marked, landmarks = _inputs(config, store)
    strict = config.split not in NOT_FOR_TESTING
    judged = list({case.id: case for case in (*cases, *marked)}.values())
    guard(card, judged, what=f"{config.split} split", strict=strict, force=config.allow_seen, among=store.cases())

    left_out = [store.label_names[value] for value in unlearnt(train, cases)]
    if left_out:
        console.say(f"Left out, since no training case shows it: {', '.join(left_out)}")

    def measured(chosen: Any) -> Any:
        return probe_encoder(
            chosen,
            reading,
            store,
            train=train,
            cases=cases,
            marked=marked,
            landmarks=landmarks,
            measures=measures,
            settings=config,
            neighbours=config.neighbours,
            seed=config.seed,
        )

    probed = measured(backbone)
    result: dict[str, Any] = probed.summary(config.seed)
    result |= {"split": config.split, "labels": len(patients_of(train)) or None}
    result |= {"left_out": left_out, "baselines": {}}
    if probed.landmark is not None:
        box = describe_errors(probed.landmark, probed.landmark.box_mm, seed=config.seed, patients=probed.patients)
        result["baselines"]["box"] = {
            "landmark_mean_mm": box["mean_mm"]["mean"],
            "landmark_median_mm": box["median_mm"]["median"],
            "landmark": box,
        }
    if config.baselines:
        console.say("Baseline with random weights:")
        result["baselines"]["untrained"] = measured(_untrained(card, config.seed)).summary(config.seed)
    if config.out is not None:
        write_text(config.out, json_text({"made_by": PROGRAM, **result}) + "\n")
    _say(result)
    return result


def _inputs(
    config: ProbeConfig, store: Store
) -> tuple[list[str], list[Case], list[Case], list[Case], Landmarks | None]:
    """The measures, training cases, scored cases, cases with landmarks, and the landmarks."""
    from alice3d.data.tables.landmarks import landmarks_of
    from alice3d.tasks.cases import draw_cases, labelled_cases, refuse_healthy

    for name in config.measures:
        if name not in MEASURES:
            raise UserError(f"--measures: no measure {name!r}; {nearest(name, MEASURES)}")
    if "landmark" in config.measures and config.landmarks is None:
        raise UserError("--measures: landmark needs --landmarks CSV")
    if config.split not in store.splits:
        raise UserError(f"--split: the store has no split {config.split!r}; it has {', '.join(store.splits) or 'none'}")
    held = store.cases(config.split)
    labelled = any(case.labelled for case in held)
    able = [*(("linear", "knn") if labelled else ()), *(("landmark",) if config.landmarks else ())]
    measures = config.measures or able
    if not measures:
        raise UserError(f"split {config.split!r} has no labels; give --landmarks, or a labelled split with --split")
    train: list[Case] = []
    cases: list[Case] = []
    if {"linear", "knn"} & set(measures):
        train = draw_cases(labelled_cases(store, config.train_split), config.labels or None, config.seed)
        cases = labelled_cases(store, config.split)
        refuse_healthy(train, f"cases of split {config.train_split!r}")
        refuse_healthy(cases, f"cases of split {config.split!r}")
        if {case.id for case in train} & {case.id for case in cases}:
            raise UserError(f"--split: {config.split!r} is also the training split of the linear head; choose another")
        both = sorted(case.id for case in cases if case.patient in {one.patient for one in train})
        if both:
            raise UserError(
                f"--split: {len(both)} cases of {config.split!r} are of patients of the linear head's training cases "
                f"({both[0]}, ...); prepare the scans into a new store, whose splits keep patients together"
            )
    landmarks = None
    if "landmark" in measures and config.landmarks is not None:
        landmarks = landmarks_of(config.landmarks, store, {case.id for case in held})
        _check(config, store, landmarks)
    marked = [case for case in held if landmarks is not None and case.id in landmarks.points_mm]
    return list(measures), train, cases, marked, landmarks


def _check(config: ProbeConfig, store: Store, landmarks: Landmarks) -> None:
    """Refuse landmarks that no two scans share, or that lie outside the bodies' bounding boxes."""
    import numpy as np

    from alice3d.data.tables.landmarks import check_convention
    from alice3d.evaluation.landmarks import ordered_pairs

    if not ordered_pairs(landmarks):
        raise UserError(f"{config.landmarks}: no two cases of split {config.split!r} share a structure")

    def inside(case: str, points: Any) -> Any:
        low, high = np.asarray(store.case(case).body_box_mm)
        return ((points >= low) & (points <= high)).all(axis=1)

    assert config.landmarks is not None
    check_convention(config.landmarks, landmarks, inside)


def _untrained(card: dict[str, Any], seed: int) -> Any:
    import torch

    from alice3d.weights.files import backbone_of

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return backbone_of(card).eval()


def _say(result: dict[str, Any]) -> None:
    """Print the result: one line per measure with its interval and the baselines."""
    from alice3d.metrics.intervals import in_words

    rows = (
        ("linear Dice", "linear_dice", ("linear",), "mean", 3),
        ("kNN accuracy", "knn_accuracy", ("knn",), "mean", 3),
        ("landmarks, mean mm", "landmark_mean_mm", ("landmark", "mean_mm"), "mean", 1),
        ("landmarks, median mm", "landmark_median_mm", ("landmark", "median_mm"), "median", 1),
    )
    for title, key, places, centre, digits in rows:
        if result[key] is None:
            continue
        entry = result
        for place in places:
            entry = entry[place]
        text = f"{title:22}{in_words(entry, digits, centre)}"
        for name, base in result["baselines"].items():
            if base.get(key) is not None:
                text += f"   {name} {base[key]:.{digits}f}"
        console.say(text)
