"""Writes pages and schemas of the reference from settings and readers: `python docs/reference/generate.py`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

import alice3d
from alice3d.api import HOMES
from alice3d.api.results import (
    Evaluation,
    Finetuning,
    MadePairs,
    MatcherTraining,
    PreparedStore,
    Pretraining,
)
from alice3d.cli import HELP_TEXTS as HELP_FOLDER
from alice3d.cli_arguments import describe
from alice3d.commands import COMMANDS, find_command
from alice3d.comparison.arms import FIXED, OF_SCRATCH
from alice3d.comparison.settings import ArmSettings
from alice3d.config import Config, keys_of
from alice3d.data.sources import layouts
from alice3d.data.sources.lists import LISTS
from alice3d.data.store.splits import FORM as SPLITS
from alice3d.data.tables import classes, landmarks
from alice3d.data.tables.csv_rows import POINT
from alice3d.data.tables.label_names import NAME_FILES
from alice3d.methods.base import find_method, method_names
from alice3d.nn.backbones.registry import BACKBONES
from alice3d.tasks.classification.model import ClassScores
from alice3d.tasks.segmentation.model import LabelMap

RESULTS = (PreparedStore, MatcherTraining, MadePairs, Pretraining, Finetuning, Evaluation)
"""What the calls that fill a folder return."""
OF_ARM = ("recipe", "encoder")
SPLITS_EXAMPLE = '{"train": ["case_001", {"id": "case_002", "patient": "p2"}], "test": ["case_003"]}\n'
CASES = ("case_001", "case_002")
TABLES = (
    (
        "Scans: CSV, for `alice prepare TABLE.csv STORE`",
        "A row a scan; `image` is needed, further columns are ignored.",
        layouts.COLUMNS,
        "image,label,id,split,patient\nscans/a.nii.gz,labels/a.nii.gz,case_001,train,p1\n"
        "scans/b.nii.gz,,case_002,pretrain,p2\n",
    ),
    (
        "Landmarks: CSV, for `--landmarks`",
        "A row a point; all columns are needed, further ones are ignored, and so are rows of other scans.",
        landmarks.COLUMNS,
        "case,structure,x_mm,y_mm,z_mm\ncase_001,carina,-2.5,31.0,-120.4\ncase_002,carina,0.8,27.9,-98.0\n",
    ),
    (
        "Classes: CSV, for `--classes`",
        "A row a scan with `case` and `class`, or a row a point with all columns; further columns are ignored.",
        classes.COLUMNS,
        "case,class\ncase_001,ill\ncase_002,well\n",
    ),
    (
        "Points to classify: CSV, for `alice predict --points`",
        "A row a point; all columns are needed, further ones are ignored.",
        {name: text for name, text in classes.COLUMNS.items() if name == "case" or name in POINT},
        "case,x_mm,y_mm,z_mm\ncase_001,-2.5,31.0,-120.4\n",
    ),
)
"""Tables: title, what a row is, columns, an example that the reader takes (`CASES` are its cases)."""

FOLDER = Path(__file__).parent


def help_text(name: str) -> str:
    """A command's help, as `alice NAME --help` prints it."""
    return describe(name, COMMANDS[name], find_command(name)[1]) + "\n"


def commands_page() -> str:
    """Each command's help, as the terminal shows it."""
    parts = [
        "# Commands\n\nMade from the program's own help by `docs/reference/generate.py`. Options may be written with "
        "`-` or `_`. Every command takes `--config FILE.yaml`, whose keys are the options' names with `_`; options on "
        "the line win. Exit codes: 0 done, 1 the work failed, 2 the call or the input was wrong. "
        "[How lines are read](command-line.md), [files that you write](files-you-write.md).\n"
    ]
    parts += [f"## alice {name}\n\n```text\n{help_text(name)}```\n" for name in COMMANDS]
    return "\n".join(parts)


def methods_page() -> str:
    """Each objective's options."""
    parts = [
        "# Objectives and their options\n\nMade from the settings by `docs/reference/generate.py`. `alice pretrain "
        "--method NAME --options.FIELD VALUE`; `sam` is what `alice train-matcher` trains.\n"
    ]
    for name in method_names():
        method = find_method(name)
        rows = ["| Option | Default | Meaning |", "|---|---|---|"]
        for field, info in method.Config.model_fields.items():
            default = info.get_default(call_default_factory=True)
            shown = ",".join(map(str, default)) if isinstance(default, (tuple, list)) else default
            text = " ".join((info.description or "").split()).replace("|", "\\|")
            rows.append(f"| `{field}` | {shown} | {text} |")
        parts.append(f"## {name}\n\n{(method.__doc__ or '').strip().splitlines()[0]}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def config_schema(kind: type[Config], leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """JSON Schema of a group of settings; what is needed may stand on the line, so nothing is required."""
    made = kind.model_json_schema()
    made.pop("required", None)
    for name in leave_out:
        made["properties"].pop(name)
    for name, field in kind.model_fields.items():
        if keys_of(field) is not None and name in made["properties"]:
            made["properties"][name] |= group_schema(kind, name)
    return made


def group_schema(kind: type[Config], name: str) -> dict[str, Any]:
    """JSON Schema of a group whose keys depend on other settings: any of what they may be."""
    if name == "arms":
        return {"additionalProperties": config_schema(ArmSettings, FIXED)}
    depends = {"options": ("method", method_names()), "backbone_options": ("backbone", BACKBONES)}
    field, values = depends.get(name, ("", ("",)))
    found: list[dict[str, Any]] = []
    for value in values:
        one = kind.kind_of(name, {field: value})
        if isinstance(one, type):
            made = config_schema(one)
        else:
            properties = {key: TypeAdapter(annotation).json_schema() for key, annotation in one.items()}
            made = {"properties": properties, "type": "object", "additionalProperties": False}
        if made not in found:
            found.append(made)
    return found[0] if len(found) == 1 else {"anyOf": found, "additionalProperties": True}


def command_schema(name: str) -> str:
    """JSON Schema of a command's file of settings."""
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"alice {name} --config FILE.yaml"}
    return json.dumps({**config_schema(find_command(name)[1]), **title}, indent=1, ensure_ascii=False) + "\n"


def splits_schema() -> str:
    """JSON Schema of a file of splits."""
    return json.dumps({**SPLITS.json_schema(), "title": "alice prepare --splits FILE.json"}, indent=1) + "\n"


def table(columns: Mapping[str, str], first: str = "Column") -> str:
    """A table of columns or keys."""
    kinds = {**dict.fromkeys(POINT, "number"), **dict.fromkeys(LISTS, "list")}
    rows = [f"| `{name}` | {kinds.get(name, 'text')} | {text} |" for name, text in columns.items()]
    return "\n".join([f"| {first} | Type | Holds |", "|---|---|---|", *rows]) + "\n"


def files_page() -> str:
    """Every file that a user writes."""
    parts = ["# Files that you write\n\nMade from the readers by `docs/reference/generate.py`.\n"]
    schemas = ", ".join(f"[{name}](schemas/{name}.json)" for name in COMMANDS)
    parts.append(
        "## Settings and recipes: YAML, for `--config`\n\nKeys are a command's options, with `_` or `-`; what they "
        "mean, their types and defaults stand under each [command](commands.md). A value is read by the type of its "
        "setting, as on the line: `3e-4` is a number, `-160:40` a word, and a list may be written `[2, 5]` or `2,5`. "
        "The line wins over the file; of a group such as `options` both are joined. Unknown keys are refused. "
        f"JSON Schemas, for an editor that completes and checks YAML: {schemas}. A first line "
        "`# yaml-language-server: $schema=PATH/pretrain.json` names one.\n"
    )
    of_arms = {name: " ".join((ArmSettings.model_fields[name].description or "").split()) for name in OF_ARM}
    parts.append(
        "### Arms of a comparison\n\n`arms` of `alice compare`: name of an arm to a mapping of these keys and of any "
        f"setting of [alice pretrain](commands.md#alice-pretrain) but {', '.join(f'`{name}`' for name in FIXED)}, "
        "which are the same for all arms. An arm whose `method` is `scratch` takes "
        f"{', '.join(f'`{name}`' for name in OF_SCRATCH)}; one whose `method` is `init` takes nothing.\n\n"
        + table(of_arms, "Key")
    )
    for title, text, columns, example in TABLES:
        parts.append(f"## {title}\n\n{text}\n\n{table(columns)}\n```text\n{example}```\n")
    parts.append(
        "## Splits: JSON, for `alice prepare --splits`\n\nName of a split to a list of cases "
        "([schema](schemas/splits.json)): ids, or `id` and `patient`, any identifier that all cases of the patient "
        "share. The names are free; `train`, `val`, `test` and `pretrain` are those that commands take by default. A "
        "case may be in one split only, and so may the cases of a [patient](../concepts/store.md#patients); one that "
        "is in none has none.\n\n"
        f"```json\n{SPLITS_EXAMPLE}```\n"
    )
    forms = "".join(f"| `{example}` | {text} |\n" for example, text in NAME_FILES.items())
    parts.append(
        "## Label names: JSON, for `alice prepare --label-names`\n\nValues are whole numbers from 1 to 32767; 0 is "
        "background and may be left out. On the line, `1=liver,2=spleen` does.\n\n| File | What it is |\n|---|---|\n"
        + forms
    )
    parts.append(
        "## dataset.json, for `alice prepare`\n\nOf the Medical Segmentation Decathlon, of MONAI (any name of the "
        "file), or of nnU-Net, whose folders `imagesTr` and `labelsTr` are read in place of the lists unless `dataset` "
        "lists them. `labels` holds label names as above; the value named `ignore` has no reference, and a list of "
        "values is a region. Other keys are ignored.\n\n" + table(LISTS, "Key")
    )
    return "\n".join(parts)


def first_line(thing: Any) -> str:
    """What a docstring says first."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def signature(name: str, call: Any) -> str:
    """A call with its arguments and their defaults; their types stand in the docstring."""
    made = inspect.signature(call)
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in made.parameters.values() if one.name != "self"]
    return f"`{name}{made.replace(parameters=plain, return_annotation=inspect.Signature.empty)}`"


def members(kind: type) -> list[str]:
    """Rows of the fields, properties and methods of a class that users see; dunder methods are none."""
    fields = [item.name for item in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    documented = "\n".join(inspect.getdoc(one) or "" for one in kind.__mro__[:-1])
    described = dict(re.findall(r"^ +(\w+): (.*)$", documented, re.MULTILINE))
    rows = [f"| `{name}` | {described.get(name, '').replace('|', chr(92) + '|')} |" for name in fields]
    for name, item in inspect.getmembers(kind):
        if isinstance(item, property) and not name.startswith("_"):
            rows.append(f"| `{name}` | {first_line(item)} |")
        elif inspect.isfunction(item) and not name.startswith("_"):
            rows.append(f"| {signature(name, item)} | {first_line(item)} |")
    return rows


def python_page() -> str:
    """The functions of `alice3d`, and what they return."""
    parts = [
        "# Python\n\nMade from docstrings by `docs/reference/generate.py`; `help(alice3d.pretrain)` prints all of one. "
        "`settings` are the options of the [command](commands.md) of the same name, with `_`. Wrong input raises "
        "`alice3d.errors.UserError`, work that failed `alice3d.errors.WorkFailed`.\n"
    ]
    rows = ["| Call | Does |", "|---|---|"]
    for module, names in HOMES.items():
        for name in names:
            call = getattr(importlib.import_module(module), name)
            if name in alice3d.__all__ and not isinstance(call, type):
                rows.append(f"| {signature(name, call)} | {first_line(call)} |")
    parts.append("\n".join(rows) + "\n")
    for kind in (*RESULTS, LabelMap, ClassScores):
        table = ["| Member | Is |", "|---|---|", *members(kind)]
        parts.append(f"## {kind.__name__}\n\n{first_line(kind)}\n\n" + "\n".join(table) + "\n")
    return "\n".join(parts)


PAGES = {"commands.md": commands_page, "methods.md": methods_page, "files-you-write.md": files_page}
PAGES |= {"python.md": python_page}
PAGES |= {f"schemas/{name}.json": partial(command_schema, name) for name in COMMANDS}
PAGES |= {"schemas/splits.json": splits_schema}
HELP_TEXTS = {name: partial(help_text, name) for name in COMMANDS}
"""Printed for `--help` without importing settings."""

if __name__ == "__main__":
    (FOLDER / "schemas").mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
    HELP_FOLDER.mkdir(exist_ok=True)
    for name, make in HELP_TEXTS.items():
        (HELP_FOLDER / f"{name}.txt").write_text(make(), encoding="utf-8")
