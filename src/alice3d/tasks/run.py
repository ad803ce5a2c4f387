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
from alice3d.plugins import checked_options
from alice3d.tasks.base import Selection, Task, find_task
from alice3d.tasks.settings import EVERY_TASK, EvaluateConfig, FinetuneSettings, PredictConfig
from alice3d.weights.files import find_weights, read_card, save_weights
from alice3d.weights.provenance import guard_scores


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
    job = task.prepare(config, checked_options(type(task), config.task_options, "task-options"))
    state = outputs.check(config.out, "model", job.settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    watch = bool(config.validate_every) and config.head != "linear"
    result, net, card = task.train(job, state, watch=watch)
    save_weights(config.out, "model", net.state_dict(), card)
    done = {"steps": result.steps, "loss": result.loss, "seconds": result.seconds, "out": str(config.out)}
    outputs.finish(config.out, done)
    console.say(
        f"Model written to {config.out}, from {len(job.cases)} labelled cases. "
        f"Next: alice evaluate {config.out} {config.store}"
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
    guard_scores(model.card, chosen.cases, config.split, allow_seen=config.allow_seen)
    out = scores_folder(config, weights)
    settings = config.settings(model=files.file_sha256(weights), store=store.checksum, **chosen.inputs)
    state = outputs.check(out, "evaluation", settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{out}: already done")
        return outputs.earlier_result(out)
    device = resolve_device(config.device, config.threads)
    outputs.begin(out, "evaluation", settings, state=state, overwrite=config.overwrite)
    result: dict[str, Any] = files.as_json(task.score(model, store, chosen, config, out=out, device=str(device)))
    files.write_text(out / "metrics.json", files.json_text({**result, "settings": settings}) + "\n")
    outputs.finish(out, result)
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
    model = task.load(weights)
    found = find_scans(config.scans)
    chosen = task.select_scans(model, found, config)
    refused: dict[str, str] = {}
    count = len(chosen.sources)
    wanted = readable(chosen.sources, refused, config.unoriented)
    if not wanted:
        raise UserError(f"none of {count} scans can be read; {_first(refused)}")
    for name, source in wanted.items():
        if (config.out / name).resolve() == source.path.resolve():
            raise UserError(f"{config.out}: its label maps would replace the scans themselves; choose another folder")
    device = resolve_device(config.device, config.threads)
    contents = {
        name: [files.file_sha256(file) for file in source.files or [source.path]] for name, source in wanted.items()
    }
    settings = config.settings(model=files.file_sha256(weights), scans=contents, **chosen.inputs)
    state = outputs.check(config.out, "prediction", settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    outputs.begin(config.out, "prediction", settings, state=state, overwrite=config.overwrite)
    chosen = Selection(sources=wanted, inputs=chosen.inputs, rows=chosen.rows)
    made = task.predict(model, chosen, config, device=str(device), refused=refused)
    if not made["written"]:
        raise UserError(f"none of {count} scans could be {task.done}; {_first(refused)}")
    named = [{"scan": name, "reason": reason} for name, reason in refused.items()]
    result = {**made, "refused": named, "out": str(config.out)}
    outputs.finish(config.out, result)
    said, more = task.say_predicted(made, config.out)
    tail = f", {len(refused)} scans refused" if refused else ""
    console.say(f"{said}{tail}{more}")
    return result


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
