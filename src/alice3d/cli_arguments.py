"""From the words of a command line and a YAML file to a command's settings, and from settings to help."""

from __future__ import annotations

import types
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from alice3d.config import CommandConfig, current_names, nearest, recipe
from alice3d.errors import UserError


class _Words(yaml.SafeLoader):
    """Leaves every scalar but null the word that it is: the types of the fields read it. YAML takes 3e-4 for a word,
    -160:40 for a number to the base of 60 and off for false."""


_Words.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.endswith((":null", ":merge"))]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

GLOBAL = {
    "config": "YAML file of settings, or the name of a shipped recipe; options on the line win",
    "json": "print one JSON object on standard output, and nothing else there",
    "debug": "show where an error came from",
    "help": "show this",
}


@dataclass(frozen=True)
class Call:
    """A parsed command line."""

    config: CommandConfig
    json: bool


def parse(command: str, what: str, kind: type[CommandConfig], words: list[str]) -> Call | str:
    """Read a command line; a string is the help that was asked for.

    Args:
        command: its name.
        what: it gives, in one line.
        kind: its settings.
        words: what follows the command's name.

    Raises:
        UserError: unknown option or key, missing or wrong value; one line, with the nearest known name.
    """
    given, places, flags = _sort(command, kind, words)
    if flags["help"]:
        return describe(command, what, kind)
    values = _from_file(flags["config"], kind) if flags["config"] else {}
    values |= _by_place(command, kind, kind.by_place(places, {**values, **given}), values)
    for name, value in given.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    return Call(kind.checked(values, command), bool(flags["json"]))


def _sort(
    command: str, kind: type[CommandConfig], words: list[str]
) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    """Options by field, words by place, and the global flags."""
    fields = kind.model_fields
    given: dict[str, Any] = {}
    places: list[str] = []
    flags: dict[str, Any] = {"config": None, "json": False, "debug": False, "help": False}
    rest = iter(words)
    for word in rest:
        if word == "--":
            places += rest
            break
        if word == "-h":
            flags["help"] = True
            continue
        if not word.startswith("--"):
            if word.startswith("-") and len(word) > 1 and not _is_number(word):
                raise UserError(f"{command}: no option {word!r}; options begin with --, see --help")
            places.append(word)
            continue
        option, equals, value = word[2:].partition("=")
        name, dot, key = option.partition(".")
        name = name.replace("-", "_")
        if name not in fields and f"{name}_" in fields:  # `--with`: a field cannot have a keyword's name
            name += "_"
        no = "no_" if name.startswith("no_") and name not in fields else ""
        name = no + next(iter(current_names({name.removeprefix(no): value}, fields)))
        if name in ("json", "debug", "help"):
            flags[name] = True
            continue
        negated = name.startswith("no_") and name[3:] in fields and is_flag(fields[name[3:]])
        if negated or (name in fields and is_flag(fields[name]) and not equals):
            given[name[3:] if negated else name] = not negated
            continue
        if name not in fields and name != "config":
            raise UserError(f"{command}: no option --{option}; {_nearest_option(name, kind)}")
        if not equals:
            try:
                value = next(rest)
            except StopIteration:
                raise UserError(f"{command}: --{option} needs a value") from None
        if name == "config":
            flags["config"] = value
        elif is_group(fields[name]):
            if not dot:
                raise UserError(f"{command}: --{name} is a group: give --{name}.KEY VALUE")
            given.setdefault(name, {})[key] = value
        elif dot:
            raise UserError(f"{command}: --{name} has no part {key!r}")
        else:
            given[name] = value
    return given, places, flags


def _is_number(word: str) -> bool:
    try:
        [float(part) for part in word.split(",")]
    except ValueError:
        return False
    return True


def _nearest_option(name: str, kind: type[CommandConfig]) -> str:
    options = [dashed(field) for field in kind.model_fields if field not in kind.positional]
    hint = nearest(name.replace("_", "-"), [*options, *GLOBAL])
    return hint.replace("did you mean '", "did you mean '--") if hint.startswith("did") else "see --help"


def _by_place(command: str, kind: type[CommandConfig], places: list[str], from_file: dict[str, Any]) -> dict[str, Any]:
    """Give words by place to the positional fields; a list field takes all that the others leave."""
    names = list(kind.positional)
    if not places:
        missing = [name for name in names if name not in from_file and kind.model_fields[name].is_required()]
        if missing:
            raise UserError(f"{command}: {', '.join(missing).upper()} missing; usage: {usage(command, kind)}")
        return {}
    many = [name for name in names if get_origin(kind.model_fields[name].annotation) is list]
    needed = len([name for name in names if kind.model_fields[name].is_required()])
    if len(places) < needed or (len(places) > len(names) and not many):
        counted = "too many" if len(places) > len(names) else "too few"
        raise UserError(f"{command}: {counted} arguments; usage: {usage(command, kind)}")
    out: dict[str, Any] = {}
    surplus = len(places) - len(names)
    at = 0
    for name in names:
        if name in many:
            out[name] = places[at : at + 1 + surplus]
            at += 1 + surplus
        elif at < len(places):
            out[name] = places[at]
            at += 1
    return out


def _from_file(path: str, kind: type[CommandConfig]) -> dict[str, Any]:
    file = Path(path)
    if not file.is_file():
        file = recipe(path) or file
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _Words)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise UserError(f"--config {path}: not YAML{where}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"--config {path}: a mapping of settings is needed, got a {type(values).__name__}")
    renamed = {str(key).replace("-", "_"): value for key, value in values.items()}
    renamed = {f"{key}_" if f"{key}_" in kind.model_fields else key: value for key, value in renamed.items()}
    renamed = current_names(renamed, kind.model_fields)
    for key in renamed:
        if key not in kind.model_fields:
            raise UserError(f"--config {path}: no setting {key!r}; {nearest(key, kind.model_fields)}")
    return renamed


def dashed(field: str) -> str:
    """A field's name as an option: `--with-dashes` without the dashes in front."""
    return field.rstrip("_").replace("_", "-")


def is_flag(field: FieldInfo) -> bool:
    """Whether it is given as `--name` or `--no-name`, without a value."""
    return field.annotation is bool


def is_group(field: FieldInfo) -> bool:
    """Whether it is given as `--name.KEY VALUE`."""
    return field.annotation is dict or get_origin(field.annotation) is dict


def usage(command: str, kind: type[CommandConfig]) -> str:
    """`alice prepare SCANS STORE [options]`."""
    places = []
    for name in kind.positional:
        field = kind.model_fields[name]
        word = name.upper() + ("..." if get_origin(field.annotation) is list else "")
        places.append(word if field.is_required() else f"[{word}]")
    return " ".join(["alice", command, *places, "[options]"])


def choices(annotation: Any) -> tuple[str, ...]:
    """The words that a type allows, where they can be named."""
    if get_origin(annotation) is Literal:
        return tuple(str(value) for value in get_args(annotation))
    parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType, Annotated) else ()
    return tuple(word for part in parts for word in choices(part))


def _type_name(annotation: Any) -> str:
    if known := choices(annotation):
        return "|".join(known)
    if get_origin(annotation) in (Union, types.UnionType):
        return _type_name(next(part for part in get_args(annotation) if part is not type(None)))
    if get_origin(annotation) is Annotated:
        return _type_name(get_args(annotation)[0])
    if get_origin(annotation) in (list, tuple):
        return "LIST"
    return {"int": "N", "float": "X", "Path": "PATH"}.get(getattr(annotation, "__name__", ""), "TEXT")


def _in_order(kind: type[CommandConfig]) -> list[str]:
    """Fields for the help: by place first, then the command's own, then what it shares with others."""
    order = list(kind.positional)
    for level in kind.__mro__:
        order += [name for name in vars(level).get("__annotations__", {}) if name in kind.model_fields]
    return list(dict.fromkeys(order))


def describe(command: str, what: str, kind: type[CommandConfig]) -> str:
    """The help of a command: usage, then every setting with its default."""
    import textwrap

    lines = [f"usage: {usage(command, kind)}", "", f"{command}: {what}", ""]
    entries: list[tuple[str, str]] = []
    for name in _in_order(kind):
        field = kind.model_fields[name]
        text = " ".join((field.description or "").split())
        if name in kind.positional:
            entries.append((name.upper(), text))
            continue
        default = field.get_default(call_default_factory=True)
        if is_flag(field):
            on = f"--{dashed(name)} / --no-{dashed(name)}"  # the text says what the setting does, not its opposite
            entries.append((on, f"{text} [on]") if default else (f"--{dashed(name)}", text))
        elif is_group(field):
            entries.append((f"--{dashed(name)}.KEY VALUE", text))
        else:
            if isinstance(default, (tuple, list)):
                default = ",".join(str(part) for part in default)
            tail = "" if field.is_required() or default is None else f" [{default}]"
            entries.append((f"--{dashed(name)} {_type_name(field.annotation)}", text + tail))
    entries += [(f"--{name}" + (" FILE" if name == "config" else ""), text) for name, text in GLOBAL.items()]
    for left, text in entries:
        wrapped = textwrap.wrap(text, 84) or [""]
        if len(left) > 30:
            lines.append(f"  {left}")
            left = ""
        lines += [f"  {left:30}  {wrapped[0]}", *(" " * 34 + more for more in wrapped[1:])]
    return "\n".join(lines)
