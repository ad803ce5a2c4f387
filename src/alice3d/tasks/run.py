"""Common code of all labelled tasks: fine-tune, evaluate, predict; each resumes or reports that it is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from alice3d import console, distributed, files, outputs
from alice3d.config import CommandConfig
from alice3d.data.sources.scan_list import find_scans, readable
from alice3d.data.store import Store
from alice3d.device import resolve_device
from alice3d.errors import UserError
from alice3d.memory import NO_MEMORY
from alice3d.plugins import checked_options
from alice3d.replacement import read_marker
from alice3d.tasks.base import Selection, Task, find_task
from alice3d.tasks.settings import EVERY_TASK, EvaluateConfig, FinetuneSettings, PredictConfig
from alice3d.weights.files import find_weights, read_card, save_weights
from alice3d.weights.provenance import guard_scores

SHOWN = 3


def finetune(config: FinetuneSettings) -> dict[str, Any]:
    """Train a task; writes model.safetensors and its card.

    Raises:
        UserError: an input or an option is wrong.
    """
    if config.head == "linear" and distributed.announced() > 1:
        raise UserError("--head linear is fitted in seconds by one process; call it without torchrun")
    if config.validate_every and config.shard_weights:
        raise UserError(
            "--validate-every: one process computes the scores from unsharded weights; leave out --shard-weights"
        )
    task = find_task(config.task)
    _refuse_unused(config, task)
    with outputs.claimed(config, "model", chief=distributed.is_chief()) as output:
        job = task.prepare(output.config, checked_options(type(task), config.task_options, "task-options"))
        results = ("model.safetensors", "model.json")
        state = output.check(job.settings, former=getattr(job, "former", None), results=results)
        out = outputs.shown(output.out)
        if state == "done":
            console.say(f"{out}: already done")
            return output.earlier_result
        watch = bool(config.validate_every) and config.head != "linear"
        result, net, card = task.train(job, state, watch=watch)
        save_weights(output.folder, "model", net.state_dict(), card)
        done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(out)}
        output.finish(done, results=results)
    console.say(
        f"Model written to {out}, from {len(job.cases)} labelled cases. Next: alice evaluate {out} {config.store}"
    )
    return done


def _refuse_unused(config: CommandConfig, task: Task) -> None:
    """Refuse a setting that the task would leave out silently."""
    for name, field in type(config).model_fields.items():
        unused = name not in EVERY_TASK | task.uses
        if unused and getattr(config, name) != field.get_default(call_default_factory=True):
            what = type(task).__name__
            raise UserError(f"--{name.replace('_', '-')}: the task {what} does not use it (see `uses`); leave it out")


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score a model on the labelled cases of a split; writes metrics.csv and metrics.json.

    Raises:
        UserError: model and store do not match, no case to score, or a case of a test split was used in training.
    """
    weights, task = task_of_model(config.model)
    _refuse_unused(config, task)
    model = task.load(weights)
    store = Store.open(config.store)
    if model.rule.modality != store.spec.modality:
        held, read = (one.upper() for one in (store.spec.modality, model.rule.modality))
        raise UserError(f"{store.path}: holds {held} scans; the model reads {read}")
    chosen = task.select_cases(model, store, config, weights)
    guard_scores(model.card, chosen.cases, config.split, allow_seen=config.allow_seen, among=store.cases())
    checksum = store.checksum_of(chosen.cases)
    settings = config.settings(model=files.file_sha256(weights), store=checksum, **chosen.inputs)
    former = {"store": (store.checksum, checksum)}
    results = ("metrics.csv", "metrics.json")
    with outputs.claimed(config, "evaluation", out=scores_folder(config, weights)) as output:
        out = outputs.shown(output.out)
        state = output.check(settings, former=former, results=results)
        if state == "done":
            console.say(f"{out}: already done")
            return output.earlier_result
        device = resolve_device(config.device, config.threads)
        outputs.begin(output.folder, "evaluation", settings, state=state, overwrite=config.overwrite)
        scores = task.score(model, store, chosen, config, out=output.folder, device=str(device))
        result: dict[str, Any] = files.as_json(scores)
        content = {**result, "settings": settings}
        files.write_text(output.folder / "metrics.json", files.json_text(content) + "\n")
        output.finish(result, results=results)
    task.say(model, result, config, out)
    return result


def scores_folder(config: EvaluateConfig, weights: Path) -> Path:
    """Where `evaluate` writes."""
    return config.out if config.out is not None else weights.parent / f"evaluation-{config.split}"


def predict(config: PredictConfig) -> dict[str, Any]:
    """Apply a model to scans; a faulty scan is reported and the others are processed.

    Raises:
        UserError: an option does not match the model, or no scan can be read.
    """
    weights, task = task_of_model(config.model)
    _refuse_unused(config, task)
    with outputs.claimed(config, "prediction") as output:
        return _predicted(config, weights, task, output)


def _predicted(
    config: PredictConfig, weights: Path, task: Task, output: outputs.Output[PredictConfig]
) -> dict[str, Any]:
    """`predict` into a folder that is claimed."""
    model = task.load(weights)
    found = find_scans(config.scans)
    outputs.refuse_sources_inside(output.out, (file for one in found.values() for file in one.files or [one.path]))
    chosen = task.select_scans(model, found, config)
    refused: dict[str, str] = {}
    count = len(chosen.sources)
    wanted = readable(chosen.sources, refused, config.unoriented)
    if not wanted:
        raise UserError(f"none of {count} scans can be read; {_first(refused)}")
    device = resolve_device(config.device, config.threads)
    contents = {
        name: [files.file_sha256(file) for file in source.files or [source.path]] for name, source in wanted.items()
    }
    settings = config.settings(model=files.file_sha256(weights), **chosen.inputs)
    out = outputs.shown(output.out)
    state = output.check(settings, former={"scans": (contents, None)}, results=task.predicts(list(wanted)))
    kept, given = ({}, []) if state == "new" else _predicted_scans(output.folder)
    if state == "done" and contents == {name: kept.get(name) for name in given}:
        console.say(f"{out}: already done")
        return output.earlier_result
    if state != "new":
        _make_room(output.folder, task, contents, kept)
    known = {**kept, **contents}
    outputs.begin(
        output.folder,
        "prediction",
        settings,
        state="started" if state == "done" else state,
        overwrite=config.overwrite,
        more={"pinned": {"scans": known}},
    )
    chosen = Selection(sources=wanted, inputs=chosen.inputs, rows=chosen.rows)
    made = task.predict(model, chosen, output.config, device=str(device), refused=refused)
    if not made["written"]:
        raise UserError(f"none of {count} scans could be {task.done}; {_first(refused)}")
    named = [{"scan": name, "reason": reason} for name, reason in refused.items()]
    result = {**made, "refused": named, "out": str(out)}
    again = {name for name, reason in refused.items() if reason == NO_MEMORY}  # there may be more another time
    output.finish(
        result,
        results=made["written"],
        more={
            "pinned": {
                "scans": {name: content for name, content in known.items() if name not in again},
                "given": [name for name in contents if name not in again],
            }
        },
    )
    said, more = task.say_predicted(made, out)
    tail = f", {len(refused)} scans refused" if refused else ""
    console.say(f"{said}{tail}{more}")
    return result


def _predicted_scans(out: Path) -> tuple[dict[str, Any], list[str]]:
    """Name of each scan that a folder of predictions was made of, or begun for, to the checksums of its files; and
    which of them the last finished call was given."""
    marker = read_marker(out) or {}
    pinned = marker.get("pinned") or {"scans": (marker.get("settings", {}).get("inputs") or {}).get("scans")}
    scans = dict(pinned["scans"] or {})  # an early version kept them among the inputs
    return scans, list(pinned.get("given", scans))


def _make_room(out: Path, task: Task, contents: dict[str, Any], kept: dict[str, Any]) -> None:
    """Remove what was predicted of scans that have changed since.

    Raises:
        UserError: a file lies where the prediction of a new scan goes.
    """
    ours = set(task.predicts(list(kept)))
    for name, content in contents.items():
        for file in task.predicts([name]):
            if name not in kept and file not in ours and (out / file).exists():
                raise UserError(
                    f"{out}: {file} lies there and was not predicted by this model; move it away, or choose another "
                    "folder"
                )
            if name in kept and kept[name] != content:
                console.say(f"{name}: the scan has changed since; predicted again")
                (out / file).unlink(missing_ok=True)
    gone = [name for name in kept if name not in contents]
    if gone:
        some = ", ".join(gone[:SHOWN]) + (", ..." if len(gone) > SHOWN else "")
        console.say(f"{out}: also holds predictions of {len(gone)} scans that are not given now ({some})")


def _first(refused: dict[str, str]) -> str:
    name, reason = next(iter(refused.items()))
    return f"{name}: {reason}"


def task_of_model(folder: str | os.PathLike[str]) -> tuple[Path, Task]:
    """The weights of a model, and their task.

    Raises:
        UserError: no model there, or its card is damaged or names no known task.
    """
    weights = find_weights(folder, "model")
    return weights, find_task(str(read_card(weights, "model").get("task", "segmentation")))
