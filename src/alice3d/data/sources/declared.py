"""Splits that a data set declares: its lists or folders of training, validation and test cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alice3d.data.sources.sources import Source


def settled(parts: Sequence[tuple[Source, str]]) -> tuple[list[Source], list[str]]:
    """Sources with their splits, and a warning where nothing can be scored.

    Where a data set holds cases out for validation or test, its lists are the splits, with labels or without: nothing
    is drawn from the training cases. Where it declares training cases alone, splits are drawn.

    Args:
        parts: each source, and the split of the list that it is from: train, val or test.
    """
    if all(split == "train" for _, split in parts):
        return [source for source, _ in parts], []
    sources = [replace(source, split=split) for source, split in parts]
    if any(source.label is not None for source in sources if source.split != "train"):
        return sources, []
    held = "its labelled cases are all in train; give --splits to hold some of them out"
    return sources, [f"the data set declares no labelled case for validation or test, {held}"]
