"""A segmenter applied to scans: label maps, each in its scan's own grid."""

from __future__ import annotations

from pathlib import Path

from alice3d import console
from alice3d.data.preprocessing.preprocess import prepare_array
from alice3d.data.sources.scan_list import refuse
from alice3d.data.sources.sources import Source
from alice3d.geometry import Grid
from alice3d.io.read import read_scan
from alice3d.io.volume import ScanError
from alice3d.io.write import write_label
from alice3d.tasks.segmentation.model import SegmentationModel


def predict_label_maps(
    model: SegmentationModel, wanted: dict[str, Source], out: Path, device: str, refused: dict[str, str]
) -> list[str]:
    """Segment and write; returns the names of all written files. Files of an earlier, interrupted call are kept.

    Args:
        model: the segmenter.
        wanted: name of the output, relative to `out`, to the scan.
        out: folder.
        device: device of the network.
        refused: gets the reason of each scan that cannot be read.
    """
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
