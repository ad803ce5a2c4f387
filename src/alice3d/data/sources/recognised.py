"""Recognises layouts that pair scans with labels by their names, one after another, in the files of a folder."""

from __future__ import annotations

from pathlib import Path

from alice3d.data.sources.bids import claim_bids
from alice3d.data.sources.case_folders import claim_case_folders
from alice3d.data.sources.pairs import OTHER_SEQUENCE, claim_lits, claim_pairs
from alice3d.data.sources.sources import Claim, Claimed, listed
from alice3d.io.folders import shown


def claim_by_name(channel: str | None = None) -> Claim:
    """A function from the image files of a folder to those that a layout takes.

    Args:
        channel: the sequence that is wanted of a case with several; None refuses such cases.
    """

    def claim(files: list[Path], root: Path) -> Claimed:
        made = Claimed()
        layouts = []
        steps = (
            claim_case_folders,
            lambda files, root: claim_bids(files, root, channel),
            claim_lits,
            lambda files, root: claim_pairs(files, root, channel),
        )
        for step in steps:
            taken = step([path for path in files if not made.takes(path)], root)
            if not taken.layout:
                continue
            layouts.append(taken.layout)
            made = Claimed(
                sources=[*made.sources, *taken.sources],
                left_out={**made.left_out, **taken.left_out},
                label_names={**made.label_names, **taken.label_names} if len(layouts) == 1 else {},
                warnings=[*made.warnings, *taken.warnings],
                layout=", ".join(layouts),
                more=made.more | taken.more,
            )
        return made

    return claim


def claim_labels(files: list[Path], root: Path) -> Claimed:
    """Leaves the label maps of known layouts out of a folder, for commands that read scans alone; every scan stays one,
    all sequences of a case included."""
    taken = claim_by_name()(files, root)
    scans = {source.path for source in taken.sources}
    kept = scans | {path for path, why in taken.left_out.items() if why == OTHER_SEQUENCE}
    out = [path for path in files if taken.takes(path) and path not in kept]
    if not out or len(out) == len(files):
        return Claimed()
    some = listed([shown(path, root) for path in out])
    return Claimed(
        left_out={path: taken.left_out.get(path, "a label map") for path in out},
        warnings=[f"{len(out)} label maps and other files of the layout {taken.layout} are not read as scans ({some})"],
        layout=taken.layout,
    )
