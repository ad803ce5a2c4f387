"""Whether the slices of one series are of one acquisition: echo, kernel, contrast agent, kind of image, time point."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from alice3d.io.volume import ScanError

SAME_SHARE = 1e-3
"""Numbers that differ by this fraction are the same, rounded."""
TIMING_FACTOR = 1.5
"""Repetition times follow the heart or the breath; from this factor on, two of them are two sequences."""
SHOWN = 4
"""Values that a reason names at most."""
IMAGE_KINDS = {
    "M", "P", "R", "I", "MAGNITUDE", "PHASE", "REAL", "IMAGINARY",
    "W", "F", "IP", "OP", "WATER", "FAT", "IN_PHASE", "OUT_PHASE", "OPP_PHASE", "ADC", "TRACEW", "FA",
}  # fmt: skip
"""Words of ImageType that tell what the values of an MR image are."""
Value = str | float | None
Parameters = tuple[Value, ...]
"""One value for each of `RULES`, None where the file has none."""


def _number(value: Any) -> Value:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _word(value: Any) -> Value:
    """Text of a short tag, "\\" between its components."""
    parts = [value] if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
    return "\\".join(" ".join(str(part if part is not None else "").split()) for part in parts).strip("\\") or None


def _words(value: Any) -> list[str]:
    return str(_word(value) or "").upper().split("\\")


def _origin(value: Any) -> Value:
    return next((word for word in _words(value)[:1] if word in ("ORIGINAL", "DERIVED")), None)


def _image_kind(value: Any) -> Value:
    return "\\".join(dict.fromkeys(word for word in _words(value)[2:] if word in IMAGE_KINDS)) or None


def _presence(value: Any) -> Value:
    """Free text, which is not shown: only whether there is some."""
    return "present" if _word(value) else "missing"


class Rule(NamedTuple):
    """A parameter that all slices of an acquisition share.

    Attributes:
        tag: of a file with one image.
        sequence, frame_tag: the same parameter of a frame of an enhanced object.
        read: its value, of the tag's.
        factor: numbers further apart than this are two values.
        counter: a value of its own in every slice is a count of the slices, no difference.
    """

    tag: str
    sequence: str
    frame_tag: str
    read: Callable[[Any], Value]
    factor: float = 1 + SAME_SHARE
    counter: bool = False


RULES = (
    Rule("EchoTime", "MREchoSequence", "EffectiveEchoTime", _number),
    Rule("EchoNumbers", "MREchoSequence", "EchoNumbers", _word, counter=True),
    Rule("RepetitionTime", "MRTimingAndRelatedParametersSequence", "RepetitionTime", _number, TIMING_FACTOR),
    Rule("DiffusionBValue", "MRDiffusionSequence", "DiffusionBValue", _number),
    Rule("TemporalPositionIdentifier", "FrameContentSequence", "TemporalPositionIndex", _word, counter=True),
    Rule("ConvolutionKernel", "CTReconstructionSequence", "ConvolutionKernel", _word),
    Rule("ContrastBolusAgent", "ContrastBolusUsageSequence", "ContrastBolusAgent", _presence),
    Rule("ImageType", "MRImageFrameTypeSequence", "FrameType", _image_kind),
    Rule("ImageType", "MRImageFrameTypeSequence", "FrameType", _origin),
)
TAGS = tuple(dict.fromkeys(rule.tag for rule in RULES))
"""Tags to read of a file."""


def parameters_of(group: Callable[[str], Any]) -> Parameters:
    """The parameters of one image.

    Args:
        group: gives the item of a functional group's sequence, or the file itself where there is none.
    """
    found = []
    for rule in RULES:
        item = group(rule.sequence)
        value = item.get(rule.frame_tag)
        found.append(rule.read(item.get(rule.tag) if value is None else value))
    return tuple(found)


def check_acquisition(slices: Sequence[Parameters], name: str) -> None:
    """Refuse a stack of several acquisitions.

    Values that are missing in some slices contradict none, but for a contrast agent.

    Args:
        slices: parameters of each slice.
        name: for messages.

    Raises:
        ScanError: slices with different values, with the tag and its values.
    """
    for rule, column in zip(RULES, zip(*slices, strict=True), strict=True):
        values = [value for value in column if value is not None]
        different = _different(values, rule.factor)
        if len(different) < 2 or (rule.counter and 2 < len(slices) == len(different)):
            continue
        raise ScanError(
            name,
            f"slices of several acquisitions in one series: {rule.tag} is {_shown(different)}; give the folder of one",
        )


def _different(values: Sequence[str | float], factor: float) -> list[str | float]:
    """Values that differ: one of each run of numbers that lie within `factor` of the one before."""
    kept: list[str | float] = []
    before: str | float | None = None
    for value in sorted(set(values)):
        if not (isinstance(value, float) and isinstance(before, float) and _near(before, value, factor)):
            kept.append(value)
        before = value
    return kept


def _near(one: float, other: float, factor: float) -> bool:
    """Whether two numbers, the smaller one first, lie within `factor`."""
    return other - one <= (factor - 1) * max(abs(one), 1e-6)


def _shown(values: Sequence[str | float]) -> str:
    """Values for a message; a damaged tag may hold anything, so text that is no short code is left out."""
    texts = [f"{value:g}" if isinstance(value, float) else value for value in values]
    if not all(re.fullmatch(r"[\w.+\\ -]{1,24}", text, re.ASCII) for text in texts):
        return f"{len(texts)} different values"
    first, more = texts[:SHOWN], len(texts) - SHOWN
    return ", ".join(first) + f" and {more} more" if more > 0 else ", ".join(first[:-1]) + f" and {first[-1]}"
