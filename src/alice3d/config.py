"""Settings: pydantic models whose fields are at once the options of the command line, the keys of YAML and the help."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo

from alice3d import console
from alice3d.errors import UserError

RENAMED = {
    "hidden_share": "mask_ratio",
    "trunk": "backbone_maps",
    "average": "ema_decay",
    "backbone_rate": "backbone_lr_scale",
}
"""Settings by the name of the version before, and by today's; the old name is taken for one version."""
_told: set[str] = set()


def current_names(values: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Values under today's names of their settings; an old name is said once.

    Args:
        values: by name.
        fields: names that are known; a setting that still has the old name keeps it.
    """
    known, found = set(fields), {}
    for key, value in values.items():
        name = RENAMED.get(key, key)
        if name == key or key in known or name not in known:
            found[key] = value
            continue
        if key not in _told:
            _told.add(key)
            console.warn(f"{key} is now called {name}; the old name goes with the next version")
        found.setdefault(name, value)
    return found


@dataclass(frozen=True)
class Keys:
    """Marks a field that is a group of settings, and says which: `Annotated[dict[str, Any], Keys(of)]`.

    Attributes:
        of: from the settings around the group, defaults included, to the `Config` that will check the group, or to the
            type of each key. A `UserError` means that it cannot be told.
    """

    of: Callable[[Mapping[str, Any]], type[Config] | Mapping[str, Any]]


@dataclass(frozen=True)
class Reads:
    """Marks a field that names what a call reads: a file, a folder, several of them, or the name of shipped weights."""


@dataclass(frozen=True)
class Writes:
    """Marks a field that names what a call writes; it must lie apart from what the call reads (`apart.check_apart`).

    Attributes:
        file: it is one file, otherwise a folder.
        within: field of an input to the form of the names that may be written directly in it.
    """

    file: bool = False
    within: Mapping[str, str] = field(default_factory=dict)


class Config(BaseModel):
    """A group of settings; unknown keys are refused, and each field's docstring is its help text."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _read_words(cls, values: Any) -> Any:
        """Take `4,4,4` for a list or a tuple, and make the words in groups plain values."""
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        read = {
            name: split(value, fields[name].annotation) if name in fields else value for name, value in values.items()
        }
        return cls._with_groups(read)

    @classmethod
    def plain_values(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Words as the plain values (as JSON has them) that the types of the fields make of them.

        What is of no field or does not fit stays as it is: `checked` refuses it.
        """
        types_of = {name: field.annotation for name, field in cls.model_fields.items()}
        values = current_names(values, types_of)
        return cls._with_groups({name: plain_value(value, types_of.get(name)) for name, value in values.items()})

    @classmethod
    def _with_groups(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name, group in values.items():
            if name in cls.model_fields and group and isinstance(group, dict):
                kind = cls.kind_of(name, values)
                if isinstance(kind, type):
                    values = {**values, name: kind.plain_values(group)}
                else:
                    values = {**values, name: {key: plain_value(value, kind.get(key)) for key, value in group.items()}}
        return values

    @classmethod
    def kind_of(cls, name: str, values: Mapping[str, Any]) -> type[Config] | Mapping[str, Any]:
        """What a group takes: the `Config` that will check it, or its keys' types; {} where that cannot be told.

        Args:
            name: of the field.
            values: the settings around it, as far as they are given.
        """
        keys = keys_of(cls.model_fields[name])
        fields = cls.model_fields.items()
        usual = {key: field.get_default(call_default_factory=True) for key, field in fields if not field.is_required()}
        try:
            return keys.of({**usual, **values}) if keys is not None else {}
        except UserError:  # a method or a network that there is not: whoever looks for it says so
            return {}

    @classmethod
    def checked(cls, values: dict[str, Any], where: str) -> Self:
        """Build from raw values.

        Args:
            values: field to value; numbers may be strings, as YAML reads `3e-4`.
            where: named in the message: the command, or a file.

        Raises:
            UserError: unknown key, missing value, or value out of range; the first of them, in one line.
        """
        values = current_names(values, cls.model_fields)
        for key in values:
            if key not in cls.model_fields:
                raise UserError(f"{where}: no setting {key!r}; {nearest(key, cls.model_fields)}")
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in cls.model_fields)
            if first["type"] == "missing" and isinstance(first["loc"][-1], int):
                name = str(first["loc"][0])
                count = len(get_args(cls.model_fields[name].annotation))
                raise UserError(f"{where}: {name}: {count} values are needed, got {values[name]!r}") from None
            if first["type"] == "missing":
                raise UserError(f"{where}: {field} is needed; see --help") from None
            message = first["msg"].removeprefix("Value error, ")
            raise UserError(f"{where}: {field or 'settings'}: {message}, got {first['input']!r}") from None


RECIPES = Path(__file__).parent / "configs"


def recipes() -> list[str]:
    """Names of the shipped recipes, files of settings for `--config`."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe(name: str) -> Path | None:
    """File of a shipped recipe, named with or without `.yaml`; None where there is none of that name."""
    file = RECIPES / f"{name.removesuffix('.yaml')}.yaml"
    return file if file.is_file() else None


def keys_of(field: FieldInfo) -> Keys | None:
    """The mark of a group."""
    return next((mark for mark in field.metadata if isinstance(mark, Keys)), None)


def split(value: Any, annotation: Any) -> Any:
    """A word at its commas where the type is a list or a tuple, None for `null` where the type has None."""
    if not isinstance(value, str):
        return value
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    if value == "null" and type(None) in members:
        return None
    rows = [one for one in members if get_origin(one) in (tuple, list, Sequence)]
    others = [one for one in members if one not in rows and one is not type(None)]
    if rows and (not others or "," in value):
        return [part for part in value.split(",") if part]
    return value


def plain_value(value: Any, annotation: Any) -> Any:
    """A word, or a list of words, as the plain value that a type makes of it; what does not fit stays as it is."""
    if isinstance(annotation, type) and issubclass(annotation, Config) and isinstance(value, dict):
        return annotation.plain_values(value)
    if annotation is None or not isinstance(value, (str, list)):
        return value
    reader: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        return reader.dump_python(reader.validate_python(split(value, annotation)), mode="json")
    except ValidationError:
        return value


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` where something is near, else the list of what is known."""
    names = list(known)
    close = difflib.get_close_matches(word, names, 1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"


class CommandConfig(Config):
    """What every command takes.

    Attributes:
        positional: fields that are given by place; a list field takes one or more values.
        uncounted: fields that change nothing in the result, or stand for an input that is known by its checksum;
            a run goes on with other values of them.
    """

    positional: ClassVar[tuple[str, ...]] = ()
    uncounted: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def by_place(cls, words: list[str], options: Mapping[str, Any]) -> list[str]:
        """The words given by place, as `positional` takes them; for a command where an option makes one needless.

        Args:
            words: as they stand on the line.
            options: field to value, of the line and the file of settings.
        """
        return words

    def is_writing(self) -> bool:
        """Whether the call writes anything."""
        return True

    def settings(self, **inputs: Any) -> dict[str, Any]:
        """What the result depends on, as plain values: the counted fields, and the checksums of the inputs.

        Args:
            inputs: name to checksum (or other plain value) of what the command reads.
        """
        left_out = {*self.uncounted, "out", "overwrite", "device", "threads"}
        plain = {key: value for key, value in self.model_dump(mode="json").items() if key not in left_out}
        return {**plain, **({"inputs": inputs} if inputs else {})}


class OutputConfig(CommandConfig):
    """A command that fills an output folder."""

    out: Annotated[Path, Writes()]
    """Output folder; the same call again goes on where it stopped, or says that it is done."""
    overwrite: bool = False
    """Replace what an earlier call of this command left in the output folder; it stays until the new is complete."""


class ScanFilesConfig(CommandConfig):
    """A command that reads scans from files."""

    unoriented: Literal["refuse", "las", "ras"] = "refuse"
    """How to treat a file whose header gives no orientation (Analyze, sform and qform unset): refuse, or assume LAS or
    RAS."""

    def settings(self, **inputs: Any) -> dict[str, Any]:
        """As `CommandConfig.settings`, without the orientation where none is assumed: runs from before the option go
        on."""
        counted = super().settings(**inputs)
        return {key: value for key, value in counted.items() if key != "unoriented" or value != "refuse"}


class ComputeConfig(CommandConfig):
    """A command that computes."""

    device: str = "auto"
    """cpu, cuda, cuda:N, mps, or auto: a GPU where there is one."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 = all."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""
