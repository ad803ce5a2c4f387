"""Segment or classify scans: a label map beside each name, in each scan's own grid, or a table of class scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from alice3d import console, files, outputs
from alice3d.config import ComputeConfig, OutputConfig
from alice3d.errors import UserError

if TYPE_CHECKING:
    from alice3d.data.sources.sources import Source
    from alice3d.inference import SegmentationModel


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


def run(config: PredictConfig) -> dict[str, Any]:
    """Write OUT/name.nii.gz for each scan, with its shape and affine, or OUT/scores.csv where the model classifies.

    A bad scan is named and the rest is done.
    """
    from alice3d.data.sources.scan_list import find_scans, readable
    from alice3d.engine.device import resolve_device
    from alice3d.inference import load_model
    from alice3d.weights.files import find_weights, read_card

    weights = find_weights(config.model, "model")
    if read_card(weights, "model").get("task") == "classification":
        from alice3d.commands.predict_classes import predict_classes

        return predict_classes(config, weights)
    if config.points is not None:
        raise UserError("--points: the model segments whole scans")
    model = load_model(weights)
    found = find_scans(config.scans)
    refused: dict[str, str] = {}
    wanted = readable(found, refused)
    if not wanted:
        name, reason = next(iter(refused.items()))
        raise UserError(f"none of {len(found)} scans can be read; {name}: {reason}")
    for name, source in wanted.items():
        if (config.out / name).resolve() == source.path.resolve():
            raise UserError(f"{config.out}: its label maps would replace the scans themselves; choose another folder")
    device = resolve_device(config.device, config.threads)
    contents = {
        name: [files.file_sha256(file) for file in source.files or [source.path]] for name, source in wanted.items()
    }
    settings = config.settings(model=files.file_sha256(weights), scans=contents)
    state = outputs.check(config.out, "prediction", settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    outputs.begin(config.out, "prediction", settings, state=state, overwrite=config.overwrite)
    written = _predict(model, wanted, config.out, str(device), refused)
    if not written:
        name, reason = next(iter(refused.items()))
        raise UserError(f"none of {len(found)} scans could be segmented; {name}: {reason}")
    result = {
        "written": written,
        "refused": [{"scan": name, "reason": reason} for name, reason in refused.items()],
        "labels": {str(value): name for value, name in model.names.items()},
        "out": str(config.out),
    }
    outputs.finish(config.out, result)
    tail = f", {len(refused)} refused" if refused else ""
    console.say(
        f"{len(written)} label maps written to {config.out}{tail}. Next: open them over their scans in a viewer"
    )
    return result


def _predict(
    model: SegmentationModel, wanted: dict[str, Source], out: Path, device: str, refused: dict[str, str]
) -> list[str]:
    """Segment and write; names of what is there in the end. What an earlier, broken-off call wrote is kept."""
    from alice3d.data.preprocessing.preprocess import prepare_array
    from alice3d.data.sources.scan_list import refuse
    from alice3d.geometry import Grid
    from alice3d.io.read import read_scan
    from alice3d.io.volume import ScanError
    from alice3d.io.write import write_label

    written = []
    with console.progress("Predicting", len(wanted)) as bar:
        for name, source in wanted.items():
            if not (out / name).exists():
                try:
                    volume = read_scan(source.path, files=source.files)
                    prepared = prepare_array(volume, spacing_mm=model.spacing_mm, modality=model.rule.modality)
                except ScanError as error:
                    refuse(name, error.reason, refused)
                    bar.advance(note=name)
                    continue
                x, y, z = volume.array.shape
                target = Grid((x, y, z), volume.affine)
                image = model.rule(prepared.image, prepared.stats)
                write_label(out / name, model.label_map(image, prepared.grid, target, device=device), volume.affine)
            written.append(name)
            bar.advance(note=name)
    return written
