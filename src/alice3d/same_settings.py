"""Whether a call has the settings and inputs of an earlier one, and how to say what differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from alice3d.config import RENAMED


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back, under today's names, in groups as well: an earlier version may have begun the
    folder."""
    return _renamed(json.loads(json.dumps(settings)))


def _renamed(settings: dict[str, Any]) -> dict[str, Any]:
    values = {key: _renamed(value) if isinstance(value, dict) else value for key, value in settings.items()}
    return {RENAMED.get(key, key): value for key, value in values.items()}


def as_today(settings: dict[str, Any], former: Mapping[str, tuple[Any, Any]] | None) -> dict[str, Any]:
    """Kept settings with the checksums of inputs as this version computes them, where they are of the same inputs.

    Args:
        settings: as an output folder holds them.
        former: name of an input to its checksum as an earlier version computed it, and as this one does.
    """
    inputs = dict(settings.get("inputs") or {})
    for name, (checksum, today) in (former or {}).items():
        if inputs.get(name) == checksum:
            inputs[name] = today
    return {**settings, "inputs": inputs} if inputs else settings


def first_difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str | None:
    """What differs first, for a message; None where nothing does. Settings come before inputs, which follow them."""
    for key in sorted({*old, *new}, key=lambda key: (key == "inputs", key)):
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            differing = first_difference(before, now, f"{prefix}{key}.")
            if differing is None:
                continue
            return differing
        if prefix == "inputs.":
            return f"another {key} (its content differs)"
        return f"{prefix}{key} {_short(before)}, this call has {_short(now)}"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
