"""Methods, backbones and tasks are found by listing their folder, or as `package.module` in the user's own code."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import ValidationError

from alice3d.config import Config, nearest
from alice3d.errors import UserError

T = TypeVar("T")
_own: set[str] = set()
"""Top-level packages that hold the user's own methods, networks and tasks, as far as they were asked for."""
NO_PLUGIN = (
    *("__init__", "base", "registry", "listing"),
    *("feature_statistics", "masked_reconstruction", "self_distillation"),
)
"""Modules of such a folder that are no plugins, in addition to those that end in `_settings`."""


def listed(folder: Path) -> list[str]:
    """Names of the modules in a folder that may hold a class of its kind, sorted; nothing is imported."""
    names = {path.stem for path in folder.glob("*.py")}
    return sorted(name for name in names if name not in NO_PLUGIN and not name.endswith("_settings"))


def listed_folders(folder: Path, module: str) -> list[str]:
    """Names of the folders in a folder that hold a module of this name, sorted; nothing is imported."""
    return sorted(path.parent.name for path in folder.glob(f"*/{module}.py"))


def classes_of(module: ModuleType, base: type[T]) -> list[type[T]]:
    """Classes that derive from `base` and are defined in the module itself."""
    return [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, base) and item.__module__ == module.__name__
    ]


def find_class(name: str, base: type[T], known: dict[str, str], kind: str) -> type[T]:
    """The class of a name, or of `package.module` in the user's own code: the one that the module defines.

    Args:
        name: as given by the user.
        base: the class that it derives from.
        known: name to module of the classes of this package.
        kind: for messages, such as `method`.

    Raises:
        UserError: no such name or module, the module cannot be imported, or it defines none or several such classes.
    """
    if name not in known and "." not in name:
        hint = nearest(name, known)
        more = "" if hint.startswith("did") else ", or package.module of your own"
        raise UserError(f"{kind}: {name!r} is unknown; {hint}{more}")
    if name not in known:
        _own.update({name.partition(".")[0]} - {"alice3d"})
    try:
        module = importlib.import_module(known.get(name, name))
    except Exception as error:  # the user's own module may raise anything on import
        said = " ".join(str(error).split())
        raise UserError(f"{kind}: {name!r} cannot be imported ({type(error).__name__}: {said})") from error
    found = classes_of(module, base)
    if len(found) != 1:
        raise UserError(
            f"{kind}: {name!r} must define one class that derives from {base.__name__}, it defines {len(found)}"
        )
    return found[0]


def place_in_own_code(error: BaseException) -> str:
    """`in your own NAME.py, line N`: the last place of the user's own code that an error came through; "" for none.

    Only a file's name is given: a message or a folder may hold a patient's name.
    """
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _own:
            place = f"in your own {Path(frame.f_code.co_filename).name}, line {line}"
    return place


def checked_options(kind: type[Any], options: dict[str, Any], group: str) -> Any:
    """The settings that a class names as its `Config`, from a group of options.

    Args:
        kind: of method, task or the like.
        options: key to value.
        group: name of the option, such as `options`.

    Raises:
        UserError: unknown key or value out of range, with the nearest key.
    """
    known = list(kind.Config.model_fields)
    for key in options:
        if key not in known:
            raise UserError(f"{group}: {kind.__name__} has no option {key!r}; {nearest(key, known)}")
    try:
        return kind.Config(**options)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise UserError(f"{group}: {said}") from None
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{group}.{field}: {said}, got {first['input']!r}") from None


def config_named(name: str, module: str) -> type[Config]:
    """The settings of a plugin whose class cannot be imported from where they are needed.

    Args:
        name: of what comes with this package, or `package.module` in the user's own code.
        module: where it lives, with `{}` for a name that comes with this package.

    Raises:
        UserError: no such module, or it defines no class with a `Config`.
    """
    try:
        found = importlib.import_module(name if "." in name else module.format(name))
    except Exception:
        raise UserError(f"{name!r} cannot be imported") from None
    for item in vars(found).values():
        if isinstance(item, type) and item.__module__ == found.__name__ and hasattr(item, "Config"):
            kind: type[Config] = item.Config
            return kind
    raise UserError(f"{name!r} names no settings")
