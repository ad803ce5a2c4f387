"""Every shipped recipe is understood by its command, and every setting has a help text."""

import re
from pathlib import Path

import pytest
import yaml

import alice3d
from alice3d.cli_arguments import describe, parse
from alice3d.commands import COMMANDS, find_command

CONFIGS = Path(alice3d.__file__).parent / "configs"
RECIPES = sorted(CONFIGS.rglob("*.yaml"))


def config_class(command):
    return find_command(command)[1]


def command_of(recipe: Path) -> tuple[str, list[str]]:
    """The call that the header of a recipe gives: `# alice train-matcher STORE OUT --config …`."""
    match = re.search(r"^# +alice ([a-z-]+) (.*)$", recipe.read_text(encoding="utf-8"), re.MULTILINE)
    assert match, f"{recipe.name}: its header must give the command"
    return match[1], match[2].split()


def as_numbers(value):
    """With numbers as floats, whole groups of them too: YAML reads 5e-4 as a word."""
    if isinstance(value, dict):
        return {key: as_numbers(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_numbers(inner) for inner in value]
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def test_there_are_recipes():
    assert RECIPES


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_parses_and_its_header_says_what_it_costs_and_gives(recipe):
    text = recipe.read_text(encoding="utf-8")
    command, words = command_of(recipe)
    words = [str(recipe) if word.endswith(".yaml") else word for word in words]
    call = parse(command, COMMANDS[command], config_class(command), words)
    for key, value in yaml.safe_load(text).items():
        assert as_numbers(getattr(call.config, key)) == as_numbers(value), f"{recipe.name}: {key}"
    header = text[: text.index("\n\n")] if "\n\n" in text else text
    assert re.search(r"^# Cost: ", header, re.MULTILINE), f"{recipe.name}: the header must say what it costs"
    assert re.search(r"^# Gives: ", header, re.MULTILINE), f"{recipe.name}: the header must say what to expect"


def test_shipped_recipes_go_by_their_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind = config_class("pretrain")
    call = parse("pretrain", "", kind, ["store", "out", "--config", "alice-paper", "--steps", "7"])
    assert call.config.options["dense_weight"] == 0
    assert call.config.steps == 7
    (tmp_path / "mae").mkdir()  # a run's folder of that name hides no recipe
    assert parse("pretrain", "", kind, ["store", "out", "--config", "mae"]).config.method == "mae"
    (tmp_path / "alice-paper").write_text("steps: 5")  # the user's own file comes first
    assert parse("pretrain", "", kind, ["store", "out", "--config", "alice-paper"]).config.steps == 5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_has_a_help_text(command):
    kind = config_class(command)
    assert [name for name, field in kind.model_fields.items() if not (field.description or "").strip()] == []
    assert set(kind.positional) <= set(kind.model_fields)
    shown = describe(command, COMMANDS[command], kind)
    for name in kind.model_fields:
        if name not in kind.positional:
            assert f"-{name.rstrip('_').replace('_', '-')}" in shown


def test_every_difference_between_the_presets_is_explained():
    from alice3d.methods.alice import Alice

    page = Path(__file__).parents[1] / "docs" / "concepts" / "alice.md"
    if not page.is_file():
        pytest.skip("the tests run outside a checkout")
    first_column = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    explained = {name for cell in first_column for name in re.findall(r"`(\w+)`", cell)}
    paper, default = (yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("alice-paper", "alice"))
    fields = config_class("pretrain").model_fields
    options = {**Alice.Config().model_dump(), **default.get("options", {})}
    differing = {key for key, value in paper["options"].items() if as_numbers(value) != as_numbers(options[key])}
    for key, value in paper.items():
        usual = default.get(key, fields[key].get_default(call_default_factory=True))
        if key not in ("options", "backbone_options") and as_numbers(value) != as_numbers(usual):
            differing.add(key)
    assert differing <= explained, f"docs/concepts/alice.md does not explain {sorted(differing - explained)}"
