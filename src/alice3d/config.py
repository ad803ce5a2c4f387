"""Settings: pydantic models whose fields are at once the options of the command line, the keys of YAML and the help."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alice3d.errors import UserError


class Config(BaseModel):
    """A group of settings; unknown keys are refused, and each field's docstring is its help text."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: Any) -> Any:
        """Take `4,4,4` for a field that is a list or a tuple."""
        if not isinstance(values, dict):
            return values
        for name, field in cls.model_fields.items():
            if get_origin(field.annotation) in (tuple, list) and isinstance(values.get(name), str):
                values = {**values, name: [part for part in values[name].split(",") if part]}
        return values

    @classmethod
    def checked(cls, values: dict[str, Any], where: str) -> Self:
        """Build from raw values.

        Args:
            values: field to value; numbers may be strings, as YAML reads `3e-4`.
            where: named in the message: the command, or a file.

        Raises:
            UserError: unknown key, missing value, or value out of range; the first of them, in one line.
        """
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

    out: Path
    """Output folder; the same call again goes on where it stopped, or says that it is done."""
    overwrite: bool = False
    """Replace what an earlier call with other settings left in the output folder."""


class ComputeConfig(CommandConfig):
    """A command that computes."""

    device: str = "auto"
    """cpu, cuda, cuda:N, mps, or auto: a GPU where there is one."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 = all."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of everything random."""
