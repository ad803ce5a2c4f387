"""Names of label values, from a JSON file or from text such as `1=liver,2=spleen`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alice3d import console
from alice3d.data.tables.regions import region_names
from alice3d.errors import UserError
from alice3d.files import unique_keys

IGNORE = "ignore"
"""nnU-Net's name of the value whose voxels take no part in loss and score."""
NAME_FILES = {
    '{"1": "liver", "2": "spleen"}': "label value to name",
    '{"liver": 1, "spleen": 2}': "name to label value",
    '{"labels": {"background": 0, "liver": 1, "spleen": 2}}': "either of them under `labels`, as a dataset.json has it",
}
"""Files that `read_label_names` takes: an example of each kind, and what it is."""


def read_label_names(text: str) -> dict[int, str]:
    """Label value to name, of a JSON file or of `1=brainstem,2=spinal_cord`.

    A file may be a `dataset.json` (nnU-Net or Medical Segmentation Decathlon, under `labels`) or a plain mapping, from
    value to name or from name to value; value 0 is background and left out.

    Raises:
        UserError: neither, or a value that is not an integer from 1 to 32,767.
    """
    if not text:
        return {}
    path = Path(text)
    if "=" in text and not os.path.exists(path):  # False where the text is too long for a file's name
        pairs: Any = _pairs(text)
        where = "label_names"
    else:
        where = path.name
        try:
            pairs = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=unique_keys)
        except OSError as error:
            raise UserError(f"{where}: label names cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not valid JSON ({error})") from None
        if isinstance(pairs, dict) and isinstance(pairs.get("labels"), dict):
            names, warnings = named_values(pairs["labels"], where)
            for warning in warnings:
                console.warn(warning)
            return names
    return checked_names(pairs, where)


def named_values(labels: Any, where: str) -> tuple[dict[int, str], list[str]]:
    """Label value to name, of `labels` in a dataset.json, and warnings; {} where there is no mapping.

    nnU-Net's regions, names with a list of values, become names of single values: see `region_names`.

    Raises:
        UserError: as `checked_names`.
    """
    if not isinstance(labels, dict):
        return {}, []
    regions = {str(name): value for name, value in labels.items() if isinstance(value, list)}
    plain = {name: value for name, value in labels.items() if not isinstance(value, list)}
    known = checked_names(plain, where)
    if not regions:
        return known, []
    named = region_names(regions, known, where)
    shown = ", ".join(f"{value}={name}" for value, name in named.items() if value not in known)
    warnings = [f"{where}: regions are read as the values that they consist of: {shown}"] if shown else []
    return named, warnings


def _pairs(text: str) -> dict[str, str]:
    """The pairs of `1=liver,2=spleen`, unchecked.

    Raises:
        UserError: a part without a name or a value, or a duplicate.
    """
    pairs: dict[str, str] = {}
    for part in text.split(","):
        one, equals, other = (word.strip() for word in part.partition("="))
        if not (one and equals and other):
            raise UserError(f"label_names: {part[:40]!r} is not a value with a name; write 1=liver,2=spleen")
        if one in pairs:
            raise UserError(f"label_names: {one[:40]!r} is given twice; each value has one name")
        pairs[one] = other
    return pairs


def checked_names(pairs: Any, where: str) -> dict[int, str]:
    """Determine which side is the value; see `read_label_names`."""
    if not isinstance(pairs, dict):
        raise UserError(f"{where}: label names must be a mapping of value to name")
    names: dict[int, str] = {}
    for one, other in pairs.items():
        value, name = (one, other) if re.fullmatch(r"\s*\d+\s*", str(one)) else (other, one)
        if isinstance(value, list):
            raise UserError(f"{where}: {name!r} is a region of several labels; give each label a name of its own")
        if not re.fullmatch(r"\s*\d+\s*", str(value)) or int(value) > 32767:
            raise UserError(f"{where}: label value {value!r} of {name!r} is not an integer from 0 to 32767")
        if int(value) in names:
            raise UserError(f"{where}: label value {value} is named twice")
        if int(value):
            names[int(value)] = str(name)
    if len(set(names.values())) < len(names):
        raise UserError(f"{where}: two label values have the same name")
    return dict(sorted(names.items()))


def without_ignored(names: Mapping[int, str]) -> tuple[dict[int, str], int | None]:
    """The names of structures, and the value that is called `ignore`, whose voxels have no reference; else None."""
    ignored = next((value for value, name in names.items() if name.lower() == IGNORE), None)
    return {value: name for value, name in names.items() if value != ignored}, ignored
