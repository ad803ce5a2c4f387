"""Backbones by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from alice3d.config import nearest
from alice3d.errors import UserError
from alice3d.nn.backbones.base import Backbone
from alice3d.plugins import classes_of, find_class, listed


def _found() -> dict[str, type[Backbone]]:
    """Name to class of every backbone that a module of this folder defines."""
    modules = (importlib.import_module(f"alice3d.nn.backbones.{name}") for name in listed(Path(__file__).parent))
    return {kind.name: kind for module in modules for kind in classes_of(module, Backbone)}


BACKBONES = _found()


def find_backbone(name: str) -> type[Backbone]:
    """The class of a backbone, by its name or as `package.module` in the user's own code.

    Raises:
        UserError: no such backbone.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    return find_class(name, Backbone, {one: kind.__module__ for one, kind in BACKBONES.items()}, "backbone")


def build_backbone(name: str, in_channels: int, options: dict[str, Any] | None = None) -> Backbone:
    """Build a backbone by name.

    Args:
        name: one of `BACKBONES`, or `package.module` of the user's own.
        in_channels: channels of the volumes.
        options: keyword arguments of the backbone's class.

    Raises:
        UserError: unknown name or option, or a value of another type or out of range.
    """
    check_options(name, options or {})
    try:
        return find_backbone(name)(in_channels=in_channels, **(options or {}))
    except (TypeError, ValueError) as error:
        raise UserError(f"backbone {name}: {error}") from error


def default_options(name: str) -> dict[str, Any]:
    """Options of a backbone and their defaults: the keywords of its class, but for the channels of its input.

    Raises:
        UserError: unknown name.
    """
    keywords = inspect.signature(find_backbone(name)).parameters
    return {key: keyword.default for key, keyword in keywords.items() if key != "in_channels"}


def option_types(name: str) -> dict[str, Any]:
    """Options of a backbone and their types.

    Raises:
        UserError: unknown name.
    """
    known = default_options(name)
    return {key: kind for key, kind in get_type_hints(find_backbone(name).__init__).items() if key in known}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse what the keywords of a backbone's class do not take.

    A number must be 1 or more, or 0 where that is the default.

    Raises:
        UserError: unknown name or option, or a value of another type or too small; one line.
    """
    known = default_options(name)
    kinds = option_types(name)
    for key, value in options.items():
        if key not in known:
            raise UserError(f"backbone_options: {name} has no option {key!r}; {nearest(key, known)}")
        lowest = 0 if known[key] == 0 and known[key] is not False else 1
        one_of = get_args(kinds[key]) or (kinds[key],)
        if not any(_fits(value, kind, lowest) for kind in one_of):
            wanted = " or ".join(dict.fromkeys(_said(kind, lowest) for kind in one_of if kind is not type(None)))
            raise UserError(f"backbone_options.{key}: {wanted} is needed, got {value!r}")


def _fits(value: Any, kind: Any, lowest: int) -> bool:
    if kind == Sequence[int]:
        return isinstance(value, (list, tuple)) and all(_fits(each, int, lowest) for each in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= lowest
    return isinstance(value, kind)


def _said(kind: Any, lowest: int) -> str:
    known = {bool: "true or false", int: f"a whole number from {lowest}", str: "a word"}
    return known.get(kind, f"a list of whole numbers from {lowest}")
