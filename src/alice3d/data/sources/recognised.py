"""Recognises layouts that pair scans with labels by their names, one after another, in the files of a folder."""

from __future__ import annotations

from pathlib import Path

from alice3d.data.sources.bids import claim_bids
from alice3d.data.sources.case_folders import claim_case_folders
from alice3d.data.sources.pairs import claim_lits, claim_pairs
from alice3d.data.sources.sources import Claim, Claimed


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
