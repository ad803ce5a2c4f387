"""The whole pipeline at small scale: scans, store, matcher, pairs, Alice, segmenters, prediction, report."""

from __future__ import annotations

import os
import platform
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from alice3d import console, outputs
from alice3d.commands.demo_steps import Size, Walk, crop_for, learning_steps, planned, segmentation_steps, without_pairs
from alice3d.config import ComputeConfig, OutputConfig, Reads, ScanFilesConfig, Writes
from alice3d.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alice3d.data.store import Case, Store
    from alice3d.phantom.files import PhantomFiles

PATIENTS = {"pretrain": 14, "train": 3, "test": 6}
"""Generated patients; those of `pretrain` get no labels."""
PHANTOM_SPACING = "6"
"""Coarse: a crop then contains several organs, and a few hundred steps are enough to learn more."""
LEAST_SCANS = 4
"""Fewer scans give too few pairs of patients to learn anything from."""
VOXELS_ACROSS = 96
HEADERS = 40
"""Number of headers that are read to choose a spacing."""
PATCH = 32
"""Voxels per side of the crops for training with labels, or those of the other crops where they are smaller."""
REPORT = "report.html"
MODELS = {"scratch": "from scratch", "Alice": "from Alice", "linear": "linear head on Alice"}
"""Model to its name in the report; the first is the reference for the others."""


class DemoConfig(OutputConfig, ScanFilesConfig, ComputeConfig):
    """`alice demo [--scans DIR [--labels DIR]]`."""

    out: Annotated[Path, Writes()] = Path("alice-demo")
    """Output folder; the same call again resumes where it stopped, or reports that it is done."""
    scans: Annotated[Path | None, Reads()] = None
    """Folder of your own scans; left out, patients are generated."""
    labels: Annotated[Path | None, Reads()] = None
    """Folder of label maps named like their scans; without labels the demo ends with the encoder."""
    splits: Annotated[Path | None, Reads()] = None
    """JSON file, split name to list of ids; left out, labelled scans are split at random into train, val and test."""
    label_names: Annotated[str, Reads()] = ""
    """Names of label values: a JSON file, or 1=liver,2=spleen."""
    spacing: str = "auto"
    """Voxel size in mm at which your scans are read; auto: about 96 voxels along their longest side."""
    modality: Literal["auto", "ct", "mr"] = "auto"
    """Modality of your scans: ct, mr, or auto: guessed from the values."""
    labelled: Annotated[int, Field(ge=1)] = 3
    """Number of labelled scans that the segmenters are trained on, at most as many as there are."""
    effort: Annotated[float, Field(gt=0)] = 1.0
    """Multiplies the training steps; 1 takes about five minutes on two CPU cores."""


def run(config: DemoConfig) -> dict[str, Any]:
    """Run all steps; each is a command with its own output folder, so that a stopped demo resumes."""
    spacing = _check(config)
    settings = config.settings()
    with outputs.claimed(config, "demo") as output:
        config, out = output.config, outputs.shown(output.out)
        state = output.check(settings, results=(REPORT,))
        if state == "done":
            console.say(f"{out}: already done. Open {out / REPORT} in a browser.")
            return output.earlier_result
        outputs.begin(config.out, "demo", settings, state=state, overwrite=config.overwrite)
        result, labels = _walk(config, spacing, out)
        output.finish(result, results=(REPORT,))
    if not labels:
        console.say("The demo ends with the encoder: segmentation needs labelled scans for training and for scoring.")
    console.say(f"Done in {result['seconds']:.0f} s. Next: open {out / REPORT} in a browser.")
    return result


def _walk(config: DemoConfig, spacing: str, out: Path) -> tuple[dict[str, Any], int]:
    """All steps; the keys of `--json`, and the number of labelled scans that were learnt from."""
    walk = Walk(config.out)
    made = _phantoms(walk, config) if config.scans is None else None
    store, prepared = _prepare(walk, config, made, spacing)
    size = _size(config, store)
    learning = learning_steps(config.out, size, made.landmarks if made is not None else None)
    segmenting = segmentation_steps(config.out, size) if size.labels else []
    walk.total = len(walk.done) + len(learning) + len(segmenting) + bool(segmenting) + 1
    results: dict[str, dict[str, Any]] = {}
    for step in [*learning, *segmenting]:
        if step.command == "pretrain" and not results["pair"]["usable"]:
            console.warn("no two scans could be matched; the encoder is trained on single scans only")
            step = without_pairs(step)
        results[step.title] = walk.command(step)
    predicted = _predict(walk, config, store, size, made) if size.labels else {}
    page = partial(_report, walk, config, store, size, made, prepared, results, predicted)
    walk.take("report", "write one page of all this", "", page)
    scores = {name.removeprefix("evaluate "): score for name, score in results.items() if name.startswith("evaluate ")}
    return {
        "report": str(out / REPORT),
        "scans": prepared["taken"],
        "seconds": round(sum(done.seconds for done in walk.done), 1),
        "dice": {name: score["dice"]["mean"] for name, score in scores.items()},
    }, size.labels


def _check(config: DemoConfig) -> str:
    """The spacing to prepare at; wrong inputs are refused before anything is written."""
    if config.scans is None:
        for name in ("labels", "splits", "label_names"):
            if getattr(config, name):
                raise UserError(f"demo: --{name.replace('_', '-')} goes with --scans; give the folder of scans too")
        return PHANTOM_SPACING if config.spacing == "auto" else config.spacing
    import numpy as np

    from alice3d.data.sources.layouts import find_sources
    from alice3d.geometry import spacing_of
    from alice3d.io.read import read_header
    from alice3d.io.volume import ScanError

    sources = [source for source in find_sources(config.scans, config.labels).sources if not source.fault]
    if len(sources) < LEAST_SCANS:
        raise UserError(f"{config.scans}: {len(sources)} scans found, the demo needs at least {LEAST_SCANS}")
    if config.spacing != "auto":
        return config.spacing
    longest, voxel = [], []
    for source in sources[:: max(len(sources) // HEADERS, 1)]:
        try:
            header = read_header(source.path, files=source.files, unoriented=config.unoriented)
        except ScanError:
            continue  # prepare reports why it is refused
        sizes = spacing_of(header.affine)
        longest.append(float((sizes * header.shape).max()))
        voxel.append(float(np.median(sizes)))
    if not longest:
        return "auto"
    return f"{max(float(np.median(longest)) / VOXELS_ACROSS, float(np.median(voxel))):.1f}"


def _phantoms(walk: Walk, config: DemoConfig) -> PhantomFiles:
    """Generate patients as files."""
    from alice3d.phantom.files import PhantomFiles, write_phantoms

    made: list[PhantomFiles] = []
    jobs = min(os.cpu_count() or 1, 4)

    def work() -> dict[str, Any]:
        earlier = PhantomFiles.finished(config.out / "scans")
        if earlier is not None:
            made.append(earlier)
            return {}
        total = sum(PATIENTS.values())
        with console.progress("Generating patients", total) as bar:
            made.append(write_phantoms(config.out / "scans", PATIENTS, config.seed, workers=jobs, done=bar.advance))
        return {}

    what = f"generate {sum(PATIENTS.values())} patients as CT files, so that nothing has to be downloaded"
    walk.take("phantoms", what, "", work)
    return made[0]


def _prepare(walk: Walk, config: DemoConfig, made: PhantomFiles | None, spacing: str) -> tuple[Store, dict[str, Any]]:
    """Scans to a store."""
    from alice3d.data.store import Store
    from alice3d.data.store.splits import choose_cases

    values: dict[str, Any] = {"store": config.out / "store", "spacing": spacing, "jobs": min(os.cpu_count() or 1, 4)}
    if made is not None:
        values |= {"scans": made.images, "labels": made.labels, "splits": made.splits, "modality": "ct"}
        values["label_names"] = str(made.label_names)
    else:
        names = ("scans", "labels", "splits", "label_names", "modality", "unoriented")
        values |= {name: getattr(config, name) for name in names}
    step = planned("prepare", "prepare", "read, check, reorient to RAS, resample, crop to the body, store", values)
    result = walk.command(step)
    store = Store.open(config.out / "store")
    if len(store.cases()) < LEAST_SCANS:
        reasons = "; ".join(f"{count} {reason}" for reason, count in result["reasons"].items())
        raise UserError(
            f"{config.scans}: {len(store.cases())} scans were accepted, the demo needs at least {LEAST_SCANS}"
            + (f"; refused: {reasons}" if reasons else "")
        )
    try:
        choose_cases(store, "auto")
    except UserError:
        known = ", ".join(store.splits)
        raise UserError(f"--splits: the demo learns from pretrain and train, it has {known}") from None
    return store, result


def _size(config: DemoConfig, store: Store) -> Size:
    """Crops that fit the scans, and the numbers of labelled scans for training and for scoring."""
    import numpy as np

    crop = crop_for(float(np.median([min(case.shape) for case in store.cases()])))
    labelled = {split: sum(case.labelled for case in store.cases(split)) for split in store.splits}
    scored = next((split for split in ("test", "val") if labelled.get(split)), "")
    return Size(
        crop=crop,
        patch=min(crop, PATCH),
        labels=min(config.labelled, labelled.get("train", 0)) if scored else 0,
        split=scored,
        effort=config.effort,
        seed=config.seed,
        device=config.device,
        threads=config.threads,
    )


def _scored_case(store: Store, size: Size) -> Case:
    """The scored case that shows most structures, the first of them by name."""
    cases = [case for case in store.cases(size.split) if case.labelled]
    return max(cases, key=lambda case: len(case.structures))


def _predict(
    walk: Walk, config: DemoConfig, store: Store, size: Size, made: PhantomFiles | None
) -> dict[str, NDArray[Any]]:
    """Segment one scan file with the fine-tuned model; label maps on its stored grid, the reference first."""
    from alice3d.data.sources.layouts import find_sources
    from alice3d.geometry import resample
    from alice3d.io.read import read_scan

    case = _scored_case(store, size)
    if made is not None:
        scan = made.images / case.source
    else:
        assert config.scans is not None
        scan = next(source.path for source in find_sources(config.scans, config.labels).sources if source.id == case.id)
    out = config.out / "predictions"
    values = {"model": config.out / "model-alice", "scans": [scan], "out": out}
    values |= {"device": size.device, "threads": size.threads, "unoriented": config.unoriented}
    result = walk.command(planned("predict", "predict", f"segment {case.id}, in its own grid", values))
    volume = read_scan(out / result["written"][0])
    labels = resample(volume.array, volume.affine, case.grid, order=0)
    return {"reference": store.label(case.id)[:, :, :], "predicted, from Alice": labels}


def _report(
    walk: Walk,
    config: DemoConfig,
    store: Store,
    size: Size,
    made: PhantomFiles | None,
    prepared: dict[str, Any],
    results: dict[str, dict[str, Any]],
    predicted: dict[str, NDArray[Any]],
) -> dict[str, Any]:
    """Write report.html."""
    import torch

    from alice3d.data.tables.landmarks import read_landmarks
    from alice3d.report.demo_page import DemoReport, Step, write_report

    boxes = {case.id: case.body_box_mm for case in store.cases()}
    scans = prepared["taken"]
    whose = "generated patients" if made is not None else f"scans of {config.scans}"
    few = f", {size.labels} of them with labels for training" if size.labels else ", without labels"
    logs = {"Matcher": config.out / "matcher", "Alice": config.out / "encoder"}
    if size.labels:
        logs |= {
            "Segmenter from scratch": config.out / "model-scratch",
            "Segmenter from Alice": config.out / "model-alice",
        }
    content = DemoReport(
        title="Alice, the whole pipeline",
        lead=f"From {scans} {whose}{few}, to a segmenter.",
        steps=[Step(done.name, done.what, done.command, done.seconds) for done in walk.done],
        store=store.path,
        prepared=prepared,
        matcher=results.get("evaluate-matcher"),
        pairs=config.out / "pairs",
        paired=results["pair"],
        logs=logs,
        scores={shown: results[f"evaluate {name}"] for name, shown in MODELS.items() if f"evaluate {name}" in results},
        landmarks=read_landmarks(made.landmarks, boxes).points_mm if made is not None else {},
        predicted=predicted,
        predicted_case=_scored_case(store, size).id if predicted else "",
        machine=f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, torch {torch.__version__}.",
        closing=_closing(config),
    )
    write_report(config.out / REPORT, content)
    return {}


def _closing(config: DemoConfig) -> list[str]:
    if config.scans is None:
        return [
            "alice demo --scans YOUR_SCANS --labels YOUR_LABELS --out my-demo",
            "alice prepare YOUR_SCANS my-store --labels YOUR_LABELS",
        ]
    given = {
        name: getattr(config, name) for name in ("scans", "labels", "splits", "label_names") if getattr(config, name)
    }
    options = " ".join(f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in given.items())
    out = shlex.quote(f"{outputs.shown(config.out)}-longer")
    return [f"alice demo {options} --effort 10 --out {out}", "alice pretrain --help"]
