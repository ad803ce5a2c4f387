"""One of several channels or sequences of a case, as `--channel` names it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SEQUENCES = {
    "t1": ("t1", "t1n", "t1w"),
    "t1ce": ("t1ce", "t1c", "t1gd"),
    "t2": ("t2", "t2w"),
    "flair": ("flair", "t2f"),
    "dwi": ("dwi",),
    "adc": ("adc",),
    "pd": ("pd",),
}
"""MR sequences, and what data sets call them."""


def sequence_of(text: str) -> str:
    """The sequence that a word stands for; "" where it is none."""
    return next((name for name, words in SEQUENCES.items() if text.lower() in words), "")


def one_channel(
    channels: Mapping[str, list[Path]], wanted: str | None, names: Mapping[str, str] | None = None
) -> tuple[str, list[Path]]:
    """Files of the chosen channel, and a fault where it is not clear which one is meant.

    Args:
        channels: name (`0000`, or a sequence) to files.
        wanted: number, sequence or name of the channel; None where the user chose none.
        names: number to the name that the data set declares for it, such as `0000` to FLAIR.
    """
    first = channels[min(channels)]
    held = ", ".join(sorted(channels))
    if wanted is not None:
        found = _meant(channels, wanted, names or {})
        if found is not None:
            return "", channels[found]
        asked = f"{int(wanted):04d}" if wanted.isdigit() else wanted
        return f"no channel {asked}: the case holds {held}", first
    if len(channels) > 1:
        return f"several channels: the case holds {held}; choose one by --channel", first
    return "", first


def _meant(channels: Mapping[str, list[Path]], wanted: str, names: Mapping[str, str]) -> str | None:
    """The channel that a word means."""
    if wanted.isdigit():
        return f"{int(wanted):04d}" if f"{int(wanted):04d}" in channels else None
    lower, sequence = wanted.lower(), sequence_of(wanted)
    for name in channels:
        said = names.get(name, "").lower()
        if name.lower() == lower or said == lower or (sequence and sequence in (name, sequence_of(said))):
            return name
    return None
