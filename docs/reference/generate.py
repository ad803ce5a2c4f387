"""Writes commands.md and methods.md from the settings themselves: `python docs/reference/generate.py`."""

from __future__ import annotations

from pathlib import Path

from alice3d.cli_arguments import describe
from alice3d.commands import COMMANDS, find_command
from alice3d.methods.base import find_method, method_names

FOLDER = Path(__file__).parent


def commands_page() -> str:
    """Each command's help, as the terminal shows it."""
    parts = [
        "# Commands\n\nMade from the program's own help by `docs/reference/generate.py`. Options may be written with "
        "`-` or `_`. Every command takes `--config FILE.yaml`, whose keys are the options' names with `_`; options on "
        "the line win. Exit codes: 0 done, 1 the work failed, 2 the call or the input was wrong.\n"
    ]
    for name, what in COMMANDS.items():
        help_text = describe(name, what, find_command(name)[1])
        parts.append(f"## alice {name}\n\n```text\n{help_text}\n```\n")
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


PAGES = {"commands.md": commands_page, "methods.md": methods_page}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
