"""The same through jsonargparse; YAML, words by place, dashes, values that begin with one, and hints stay ours."""

from __future__ import annotations

import argparse
from typing import Any, get_origin

import yaml
from alice3d.options import _by_place, _from_file, _nearest_option, _Words, is_flag, is_group, usage
from jsonargparse import ActionYesNo, ArgumentParser, set_loader
from trial import main

from alice3d.errors import UserError

KEPT = (_by_place, _from_file, _nearest_option, _Words, is_flag, is_group, usage)


def parse(command: str, what: str, kind: Any, words: list[str]) -> Any:
    """Read a command line."""
    set_loader("words", lambda text: yaml.load(text, _Words), (yaml.YAMLError,))
    parser = ArgumentParser(prog=f"alice {command}", description=what, exit_on_error=False, parser_mode="words")
    parser.usage = usage(command, kind)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    for name, field in kind.model_fields.items():
        if name in kind.positional:
            continue
        text = " ".join((field.description or "").split()).replace("%", "%%")
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        known = field.annotation
        if get_origin(known) in (list, tuple):  # with commas, as our settings read them
            known, default = str, ",".join(map(str, default or ()))
        how = {"action": ActionYesNo(no_prefix="no_")} if is_flag(field) else {"type": known}
        parser.add_argument(f"--{name}", default=default, help=text, **how)
    parser.add_argument("--config", default="")
    for name in ("json", "debug"):
        parser.add_argument(f"--{name}", action="store_true")
    try:
        given = parser.parse_args(_joined(command, kind, words), defaults=False).as_dict()
    except argparse.ArgumentError as error:
        said = " ".join(str(error).split())
        if "unrecognized arguments: --" in said:
            name = said.split("--")[1].split("=")[0].split(".")[0].split(" ")[0]
            said = f"no option --{name}; {_nearest_option(name, kind)}"
        raise UserError(f"{command}: {said}") from None
    given.pop("debug", None)
    as_json, places, file = given.pop("json", False), given.pop("words", []), given.pop("config", "")
    values = _from_file(file, kind) if file else {}
    values |= _by_place(command, kind, kind.by_place(places, {**values, **given}), values)
    for name, value in given.items():
        values[name] = {**values.get(name, {}), **value} if is_group(kind.model_fields[name]) else value
    return kind.checked(values, command), as_json


def _joined(command: str, kind: Any, words: list[str]) -> list[str]:
    """Names with `_`, and `--name=value` in one word: argparse takes a value that begins with - for an option."""
    rest, found = iter(words), []
    for word in rest:
        if not word.startswith("--"):
            found.append(word)
            continue
        option, equals, value = word.partition("=")
        name, dot, key = option[2:].partition(".")
        name = name.replace("-", "_")
        field = kind.model_fields.get(name)
        if field is not None and is_group(field) and not dot:
            raise UserError(f"{command}: --{name} is a group: give --{name}.KEY VALUE")
        if (name == "config" or (field is not None and not is_flag(field))) and not equals:
            equals, value = "=", next(rest, "")
            if not value:
                raise UserError(f"{command}: --{name} needs a value")
        found.append(f"--{name}{dot}{key}{equals}{value}")
    return found


if __name__ == "__main__":
    main(parse)
