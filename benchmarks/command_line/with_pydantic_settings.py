"""The same through the command line of pydantic-settings; words by place, YAML, groups, dashes and hints stay ours."""

from __future__ import annotations

import warnings
from typing import Any, get_origin

from alice3d.options import _by_place, _from_file, _nearest_option, dashed, is_flag, is_group, usage
from pydantic import ConfigDict, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, CliApp, SettingsError
from trial import main

from alice3d.errors import UserError

KEPT = (_by_place, _from_file, _nearest_option, dashed, is_flag, is_group, usage)


def parse(command: str, what: str, kind: Any, words: list[str]) -> Any:
    """Read a command line."""
    fields: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        if name not in kind.positional:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            known = str if is_group(field) else field.annotation
            if is_group(field):
                default = ""
            elif get_origin(known) in (list, tuple):  # with commas, as our settings read them
                known, default = str, ",".join(map(str, default or ()))
            elif default is None:
                known = known | None
            fields[name.rstrip("_")] = (known, Field(default, description=field.description))
    fields |= {"config": (str, ""), "json": (bool, False), "debug": (bool, False)}
    settings = ConfigDict(cli_kebab_case=True, cli_implicit_flags=True, cli_prog_name=usage(command, kind))  # type: ignore
    warnings.simplefilter("ignore")  # of pydantic, for a field `json`
    made = create_model(kind.__name__, __base__=BaseSettings, **fields)
    made.model_config |= {**settings, "cli_avoid_json": True, "extra": "forbid"}
    places: list[str] = []
    groups: dict[str, dict[str, str]] = {}
    try:
        found = CliApp.run(
            made, cli_args=list(_rewritten(command, kind, words, places, groups)), cli_exit_on_error=False
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{command}: {first['loc'][0]}: {first['msg']}, got {first['input']!r}") from None
    except SettingsError as error:
        said = " ".join(str(error).removeprefix("error parsing CLI: ").split())
        if "unrecognized arguments: --" in said:
            name = said.split("--")[1].split("=")[0].split(".")[0].split(" ")[0]
            said = f"no option --{name}; {_nearest_option(name, kind)}"
        raise UserError(f"{command}: {said}") from None
    values = _from_file(found.config, kind) if found.config else {}
    given = {name: getattr(found, name) for name in found.model_fields_set if name in kind.model_fields}
    values |= _by_place(command, kind, kind.by_place(places, {**values, **given}), values)
    values |= given
    for name, value in groups.items():
        values[name] = {**values.get(name, {}), **value}
    return kind.checked(values, command), found.json


def _rewritten(command: str, kind: Any, words: list[str], places: list[str], groups: dict[str, dict[str, str]]) -> Any:
    """Names with -, and `--name=value` in one word; groups and the words by place are set apart."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            if word.startswith("-") and word != "-h":
                raise UserError(f"{command}: no option {word!r}; options begin with --, see --help")
            places.append(word)
            continue
        option, equals, value = word.partition("=")
        name, dot, key = option[2:].partition(".")
        field = kind.model_fields.get(name.replace("-", "_"))
        taking = name == "config" or (field is not None and not is_flag(field))
        if field is not None and is_group(field) and not dot:
            raise UserError(f"{command}: --{name} is a group: give --{name}.KEY VALUE")
        if taking and not equals and not (value := next(rest, "")):
            raise UserError(f"{command}: --{name} needs a value")
        if field is not None and is_group(field):
            groups.setdefault(name.replace("-", "_"), {})[key] = value
        else:
            yield f"--{dashed(name)}{dot}{key}" + (f"={value}" if value else "")


if __name__ == "__main__":
    main(parse)
