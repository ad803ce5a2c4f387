"""The same through tyro; words by place, YAML and groups stay ours, and its boxes become one line."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from typing import Any, get_origin

import tyro
from alice3d.options import _by_place, _from_file, _nearest_option, is_flag, is_group, usage
from pydantic import Field, create_model
from trial import main

from alice3d.errors import UserError

KEPT = (_by_place, _from_file, _nearest_option, is_flag, is_group, usage)


def parse(command: str, what: str, kind: Any, words: list[str]) -> Any:
    """Read a command line."""
    fields: dict[str, Any] = {"words": (tyro.conf.Positional[list[str]], [])}
    for name, field in kind.model_fields.items():
        if name not in kind.positional and not is_group(field):
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            known: Any = field.annotation
            if get_origin(known) in (list, tuple):  # with commas, as our settings read them
                known, default = str, ",".join(map(str, default or ()))
            known = known | None if default is None else known
            fields[name.rstrip("_")] = (known, Field(default, description=field.description))
    fields |= {"config": (str, ""), "json": (bool, False), "debug": (bool, False)}
    groups: dict[str, dict[str, str]] = {}
    words = list(_without_groups(command, kind, words, groups))
    warnings.simplefilter("ignore")  # of pydantic, for a field `json`
    made = create_model(kind.__name__, **fields)
    boxes = io.StringIO()
    try:
        with contextlib.redirect_stderr(boxes):
            found = tyro.cli(made, prog=usage(command, kind), description=f"{command}: {what}", args=words)
    except SystemExit as stop:
        if not stop.code:
            raise
        said = " ".join(re.sub("[│╭╮╰╯─]", " ", boxes.getvalue()).split()).removeprefix("Parsing error ")
        said = said.split(" For full helptext")[0].split(" Argument helptext")[0].removeprefix("Unrecognized options ")
        if wrong := re.search(r"--([\w-]+): could not convert string to \w+: (.*)", said):
            said = f"{wrong[1]}: a valid number is needed, got {wrong[2]}"
        elif unknown := re.search(r"Unrecognized options: --([\w-]+)", said):
            said = f"no option --{unknown[1]}; {_nearest_option(unknown[1], kind)}"
        raise UserError(f"{command}: {said}") from None
    values = _from_file(found.config, kind) if found.config else {}
    written = {word[2:].split("=")[0].replace("-", "_").removeprefix("no_") for word in words if word[:2] == "--"}
    given = {name: getattr(found, name) for name in written if name in kind.model_fields}
    values |= _by_place(command, kind, kind.by_place(found.words, {**values, **given}), values)
    values |= given
    for name, value in groups.items():
        values[name] = {**values.get(name, {}), **value}
    return kind.checked(values, command), found.json


def _without_groups(command: str, kind: Any, words: list[str], groups: dict[str, dict[str, str]]) -> Any:
    """Set `--group.key value` apart: tyro knows no free keys."""
    rest = iter(words)
    for word in rest:
        name, dot, key = word[2:].partition(".")
        name = name.replace("-", "_")
        if word.startswith("--") and name in kind.model_fields and is_group(kind.model_fields[name]):
            if not dot:
                raise UserError(f"{command}: --{name} is a group: give --{name}.KEY VALUE")
            key, equals, value = key.partition("=")
            groups.setdefault(name, {})[key] = value if equals else next(rest)
        else:
            yield word


if __name__ == "__main__":
    main(parse)
