"""Score a segmenter or a classifier on a split of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from alice3d import console, files, outputs
from alice3d.config import ComputeConfig
from alice3d.errors import UserError

if TYPE_CHECKING:
    from alice3d.data.store import Case, Store
    from alice3d.evaluation.segmentation import StructureScore
    from alice3d.inference import SegmentationModel


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


def run(config: EvaluateConfig) -> dict[str, Any]:
    """Predict each labelled case and score it on the store's grid, against the reference as the store holds it.

    A classifier is scored on the rows of its class table instead.

    A score is the mean over the structures that a case's reference shows, then over cases. A structure that the
    reference lacks is left out and counted (`absent`); one that is present but not predicted scores Dice 0, NSD 0 and,
    for HD95, the diagonal of the stored scan (`missed`).
    """
    from alice3d.data.store import Store
    from alice3d.engine.device import resolve_device
    from alice3d.evaluation.segmentation import summarise
    from alice3d.inference import load_model
    from alice3d.tasks.segmentation import labelled_cases
    from alice3d.weights.files import find_weights, read_card
    from alice3d.weights.provenance import guard_scores

    weights = find_weights(config.model, "model")
    if read_card(weights, "model").get("task") == "classification":
        from alice3d.commands.evaluate_classes import evaluate_classes

        return evaluate_classes(config, weights)
    if config.classes is not None:
        raise UserError("--classes: the model segments; it is scored on the store's labels")
    model = load_model(weights)
    store = Store.open(config.store)
    if model.rule.modality != store.spec.modality:
        held, read = (one.upper() for one in (store.spec.modality, model.rule.modality))
        raise UserError(f"{store.path}: holds {held} scans; the model reads {read}")
    cases = labelled_cases(store, config.split)
    names = _same_names(model, store)
    guard_scores(model.card, cases, config.split, allow_seen=config.allow_seen)
    out = config.out if config.out is not None else weights.parent / f"evaluation-{config.split}"
    settings = config.settings(model=files.file_sha256(weights), store=store.checksum)
    state = outputs.check(out, "evaluation", settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{out}: already done")
        return outputs.earlier_result(out)
    device = resolve_device(config.device, config.threads)
    outputs.begin(out, "evaluation", settings, state=state, overwrite=config.overwrite)
    scores = _score(model, store, cases, names, config, str(device))
    shown = sorted({value for case in cases for value in case.structures})
    result = summarise(scores, len(cases), [names[value] for value in shown], seed=config.seed)
    _write(out, scores, result, settings)
    outputs.finish(out, result)
    _say(result, config, out)
    return result


def _same_names(model: SegmentationModel, store: Store) -> dict[int, str]:
    """Names of the store's label values; a value that means something else to the model is refused."""
    names = store.label_names
    for value, name in model.names.items():
        declared = store.spec.label_names.get(value)
        if declared is not None and declared != name and not name.startswith("label_"):
            raise UserError(f"label {value} is {declared!r} in the store and {name!r} in the model; they do not match")
    unknown = [name for value, name in names.items() if value not in model.names]
    if unknown:
        console.warn(f"the model does not know {', '.join(unknown)}; where present, it counts as missed")
    return {**model.names, **names}


def _score(
    model: SegmentationModel,
    store: Store,
    cases: list[Case],
    names: dict[int, str],
    config: EvaluateConfig,
    device: str,
) -> list[StructureScore]:
    from alice3d.data.store.read_grid import read_case
    from alice3d.evaluation.segmentation import score_case

    scores: list[StructureScore] = []
    with console.progress("Evaluating", len(cases)) as bar:
        for case in cases:
            image, grid = read_case(store, case, model.rule, model.spacing_mm)
            predicted = model.label_map(image, grid, case.grid, device=device)
            reference = store.label(case.id)[:, :, :]
            scores += score_case(case.id, reference, predicted, case.spacing_mm, names, tolerance_mm=config.tolerance)
            bar.advance(note=case.id)
    return scores


def _write(out: Path, scores: list[StructureScore], result: dict[str, Any], settings: dict[str, Any]) -> None:
    """metrics.csv, a row a case and structure; metrics.json, the summary with what it depends on."""
    import csv
    import io
    import json
    from dataclasses import asdict, fields

    from alice3d.evaluation.segmentation import StructureScore

    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(StructureScore)], lineterminator="\n")
    table.writeheader()
    for score in scores:
        row = asdict(score)
        table.writerow({key: f"{cell:.6g}" if isinstance(cell, float) else cell for key, cell in row.items()})
    files.write_text(out / "metrics.csv", text.getvalue())
    files.write_text(out / "metrics.json", json.dumps({**result, "settings": settings}, indent=1) + "\n")


def _say(result: dict[str, Any], config: EvaluateConfig, out: Path) -> None:
    width = max(len(name) for name in (*result["by_structure"], "mean over cases"))
    console.say(f"{'':{width}}  Dice                NSD at {config.tolerance:g} mm         HD95 mm")
    for name, entry in (*result["by_structure"].items(), ("mean over cases", result)):
        dice, nsd, hd95 = (entry[metric] for metric in ("dice", "nsd", "hd95_mm"))
        console.say(
            f"{name:{width}}  {dice['mean']:.3f} ({dice['low']:.3f}-{dice['high']:.3f})  "
            f"{nsd['mean']:.3f} ({nsd['low']:.3f}-{nsd['high']:.3f})  "
            f"{hd95['mean']:.1f} ({hd95['low']:.1f}-{hd95['high']:.1f})"
        )
    console.say(
        f"{result['cases']} cases; {result['absent']} structures absent from a reference, {result['missed']} missed. "
        f"Scores written to {out}. Next: alice predict {config.model} SCANS PREDICTIONS"
    )
