"""A segmenter applied to scans: label maps, each in its scan's own grid."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from alice3d import console
from alice3d.data.sources.scan_list import refuse
from alice3d.data.sources.sources import Source
from alice3d.io.read import read_scan
from alice3d.io.volume import ScanError, Unoriented
from alice3d.memory import within_memory
from alice3d.tasks.segmentation.model import SegmentationModel


def predict_label_maps(
    model: SegmentationModel,
    wanted: dict[str, Source],
    out: Path,
    device: str,
    refused: dict[str, str],
    unoriented: Unoriented = "refuse",
) -> list[str]:
    """Segment and write; returns the names of all written files. Files of an earlier, interrupted call are kept.

    Args:
        model: the segmenter.
        wanted: name of the output, relative to `out`, to the scan.
        out: folder.
        device: device of the network.
        refused: gets the reason of each scan that cannot be read.
        unoriented: orientation of a file that gives none.
    """
    written = []
    with console.progress("Predicting", len(wanted)) as bar:
        for name, source in wanted.items():
            if not (out / name).exists() or not (out / name).stat().st_size:
                try:
                    with within_memory(partial(ScanError, name)):
                        volume = read_scan(source.path, files=source.files, unoriented=unoriented)
                        made = model.of_volume(volume, device=device)
                        made.save(out / name)
                except ScanError as error:
                    refuse(name, error.reason, refused)
                    bar.advance(note=name)
                    continue
            written.append(name)
            bar.advance(note=name)
    return written
