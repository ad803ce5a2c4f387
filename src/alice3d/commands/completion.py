"""Print a script with which the shell completes commands, options and their choices; made from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from alice3d import console
from alice3d.cli_arguments import GLOBAL, choices, dashed, is_flag, is_group
from alice3d.commands import COMMANDS, find_command
from alice3d.config import RECIPES, CommandConfig
from alice3d.version import __version__

BASH = """# Completion of alice @VERSION@ in bash: save as ~/.local/share/bash-completion/completions/alice
_alice() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD - 1]}" command="${COMP_WORDS[1]}" words=""
    if [[ $word == "=" ]]; then
        word=""
    elif [[ $before == "=" ]]; then
        before="${COMP_WORDS[COMP_CWORD - 2]}"
    fi
    if ((COMP_CWORD == 1)); then
        words="@COMMANDS@ --help --version"
    else
        case "$command ${before//_/-}" in
@CHOICES@
            *)
                case "$command $word" in
@OPTIONS@
                esac
                ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *. ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _alice alice
"""
"""Where nothing is found, bash offers files: so for paths, and for every word by place."""

ZSH = """#compdef alice
# Completion of alice @VERSION@ in zsh: save as _alice in a folder of $fpath, or source it after compinit
_alice() {
    local before="${words[CURRENT-1]}" command="${words[2]}"
    local -a found groups
    if compset -P '*='; then before="${IPREFIX%=}"; fi
    if ((CURRENT == 2)); then
        found=(@COMMANDS@)
        _describe command found
        return
    fi
    case "$command ${before//_/-}" in
@CHOICES@
        *)
            case "$command $PREFIX" in
@OPTIONS@
            esac
            ;;
    esac
    (($#groups)) && compadd -S '' -- $groups
    if (($#found)); then _describe value found; elif [[ $PREFIX != -* ]]; then _files; fi
}
if [[ $funcstack[1] == _alice ]]; then _alice "$@"; else compdef _alice alice; fi
"""
FISH = """# Completion of alice @VERSION@ in fish: save as ~/.config/fish/completions/alice.fish
complete -c alice -n __fish_use_subcommand -f
"""


class CompletionConfig(CommandConfig):
    """`alice completion bash|zsh|fish`."""

    positional: ClassVar[tuple[str, ...]] = ("shell",)
    shell: Literal["bash", "zsh", "fish"]
    """bash, zsh or fish; the first lines of the script say where to save it. Make it anew after an update."""


@dataclass(frozen=True)
class Option:
    """What may be written on the line of a command.

    Attributes:
        word: `--name`, `--no-name`, `--name.` of a group, or nothing for a word by place.
        text: its help, cut to its first part.
        takes: nothing, one of `choices`, a path, or any other value.
        choices: that are known.
    """

    word: str
    text: str
    takes: Literal["nothing", "choice", "path", "value"]
    choices: tuple[str, ...] = ()


def options_of(command: str) -> list[Option]:
    """Everything that a command takes: its settings, then what every command takes."""
    kind, found = find_command(command)[1], []
    for name, field in kind.model_fields.items():
        text = _short(field.description or "")
        known = choices(field.annotation)
        if name in kind.positional:
            found += [Option("", text, "choice", known)] if known else []
        elif is_flag(field):
            found += [Option(f"--{prefix}{dashed(name)}", text, "nothing") for prefix in ("", "no-")]
        elif is_group(field):
            found.append(Option(f"--{dashed(name)}.", text, "value"))
        else:
            path = "Path" in str(field.annotation)
            found.append(Option(f"--{dashed(name)}", text, "choice" if known else "path" if path else "value", known))
    for name, text in GLOBAL.items():
        found.append(Option(f"--{name}", _short(text), "nothing"))
        if name == "config":
            found[-1] = Option("--config", _short(text), "path", _recipes(command))
    return found


def _recipes(command: str) -> tuple[str, ...]:
    """Shipped recipes of a command, by the call in their header."""
    files = RECIPES.glob("*.yaml")
    return tuple(sorted(file.stem for file in files if f"# alice {command} " in file.read_text(encoding="utf-8")))


def _short(text: str) -> str:
    """The first part of a help text, without what shells would read as theirs."""
    first = " ".join(text.split()).split("; ")[0].split(". ")[0].rstrip(".")
    return "".join(letter for letter in first if letter not in "`'\"\\$[]")


def bash(commands: dict[str, list[Option]]) -> str:
    """The script for bash."""
    chosen, listed = [], []
    for name, options in commands.items():
        chosen += [f'            "{name} {o.word}") words="{" ".join(o.choices)}" ;;' for o in options if _asks(o)]
        listed.append(f'                    "{name} -"*) words="{" ".join(o.word for o in options if o.word)}" ;;')
        listed += [f'                    "{name} "*) words="{" ".join(o.choices)}" ;;' for o in options if not o.word]
    return _filled(BASH, " ".join(commands), chosen, listed)


def zsh(commands: dict[str, list[Option]]) -> str:
    """The script for zsh."""
    chosen, listed = [], []
    for name, options in commands.items():
        chosen += [f'        "{name} {o.word}") found=({" ".join(o.choices)}) ;;' for o in options if _asks(o)]
        words = " ".join(_described(o.word, o.text) for o in options if o.word and not o.word.endswith("."))
        groups = " ".join(o.word for o in options if o.word.endswith("."))
        listed.append(f'                "{name} -"*) found=({words}); groups=({groups}) ;;')
        listed += [f'                "{name} "*) found=({" ".join(o.choices)}) ;;' for o in options if not o.word]
    said = " ".join(_described(name, _short(COMMANDS[name])) for name in commands)
    return _filled(ZSH, said, chosen, listed)


def _described(word: str, text: str) -> str:
    """An entry for `_describe` of zsh."""
    return f"'{word}:{text.replace(':', chr(92) + ':')}'"


def fish(commands: dict[str, list[Option]]) -> str:
    """The script for fish; of a group only the name is offered, without a key."""
    lines = [_filled(FISH, "", [], []).rstrip()]
    takes = {"nothing": "", "choice": " -x", "path": " -r", "value": " -x"}
    for name, options in commands.items():
        lines.append(f"complete -c alice -n __fish_use_subcommand -a {name} -d '{_short(COMMANDS[name])}'")
        for o in options:
            offered = f" -a '{' '.join(o.choices)}'" if o.choices else ""
            word = f" -l {o.word[2:]}{takes[o.takes]}" if o.word else " -f"
            lines.append(f"complete -c alice -n '__fish_seen_subcommand_from {name}'{word}{offered} -d '{o.text}'")
    return "\n".join(lines) + "\n"


def _asks(option: Option) -> bool:
    return bool(option.word and option.choices)


def _filled(script: str, commands: str, chosen: list[str], listed: list[str]) -> str:
    parts = {"COMMANDS": commands, "CHOICES": "\n".join(chosen), "OPTIONS": "\n".join(listed)}
    for name, text in {"VERSION": __version__, **parts}.items():
        script = script.replace(f"@{name}@", text)
    return script


def run(config: CompletionConfig) -> dict[str, Any]:
    """Print the script."""
    commands = {name: options_of(name) for name in COMMANDS}
    script = {"bash": bash, "zsh": zsh, "fish": fish}[config.shell](commands)
    console.say(script.rstrip())
    return {"shell": config.shell, "script": script}
