"""The same through cyclopts: a signature made from the settings; words by place and YAML stay ours."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, get_origin

from alice3d.options import _by_place, _from_file, is_flag, is_group, usage
from cyclopts import App, CycloptsError, Parameter
from trial import main

from alice3d.errors import UserError

KEPT = (_by_place, _from_file, is_flag, is_group, usage)
QUIET = {"print_error": False, "exit_on_error": False}


def signature(kind: Any) -> inspect.Signature:
    """The settings as keywords; cyclopts cannot have a list by place before another word, so those are `words`."""
    parameters = [
        inspect.Parameter("words", inspect.Parameter.VAR_POSITIONAL, annotation=Annotated[str, Parameter(show=False)])
    ]
    for name, field in kind.model_fields.items():
        if name in kind.positional:
            continue
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        annotation = field.annotation
        if get_origin(annotation) in (list, tuple):  # with commas, as our settings read them
            annotation, default = str, ",".join(map(str, default or ()))
        text = " ".join((field.description or "").split())
        negative = None if is_flag(field) else ""
        parameters.append(
            inspect.Parameter(
                name.rstrip("_"),
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[annotation, Parameter(help=text, negative=negative)],
            )
        )
    return inspect.Signature(parameters)


def parse(command: str, what: str, kind: Any, words: list[str]) -> Any:
    """Read a command line."""
    made: dict[str, Any] = {}

    def call(**values: Any) -> None:
        pass

    call.__signature__ = signature(kind)  # type: ignore[attr-defined]
    app = App(
        name=f"alice {command}",
        help=f"{command}: {what}",
        usage=f"usage: {usage(command, kind)}",
        help_formatter="plain",
        help_format="plaintext",
        version_flags=[],
        result_action="return_value",
        **QUIET,  # type: ignore[arg-type]
    )
    app.default(call)

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        config: str = "",
        json: bool = False,
        debug: bool = False,
    ) -> None:
        bound = dict(app.parse_args(tokens, **QUIET)[1].arguments)  # type: ignore[arg-type]
        values = _from_file(config, kind) if config else {}
        places = list(bound.pop("words", ()))
        given = {name if name in kind.model_fields else f"{name}_": value for name, value in bound.items()}
        values |= _by_place(command, kind, kind.by_place(places, {**values, **given}), values)
        for name, value in given.items():
            values[name] = {**values.get(name, {}), **value} if is_group(kind.model_fields[name]) else value
        made.update(config=kind.checked(values, command), json=json)

    try:
        app.meta(words, **QUIET)  # type: ignore[call-overload]
    except CycloptsError as error:
        said = " ".join(str(error).split())
        if wrong := re.search(r"for --([\w-]+): unable to convert (.*) into (dict|float|int)", said):
            said = f"{wrong[1]}: {'give --options.KEY VALUE' if wrong[3] == 'dict' else 'a valid number is needed'}"
            said += f", got {wrong[2]}"
        raise UserError(f"{command}: {said}") from None
    return (made["config"], made["json"]) if made else ""


if __name__ == "__main__":
    main(parse)
