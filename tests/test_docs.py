"""What the documentation says exists: commands, options, links, imports; and the reference is the program's own."""

import ast
import importlib
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import alice3d
from alice3d.cli_arguments import GLOBAL
from alice3d.commands import COMMANDS, find_command

ROOT = Path(__file__).parents[1]
CONFIGS = Path(alice3d.__file__).parent / "configs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="the tests run outside a checkout")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def config_class(command):
    return find_command(command)[1]


def fenced(text: str, languages: tuple[str, ...]) -> list[str]:
    """Bodies of the fenced blocks of these languages."""
    blocks = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [body for language, body in blocks if language in languages]


def calls(text: str) -> list[str]:
    """Every `alice …` call: lines of shell blocks, and inline code."""
    found = []
    for body in fenced(text, ("bash", "sh", "console", "")):
        for line in body.replace("\\\n", " ").splitlines():
            found += [
                part.strip() for part in re.split(r"&&|;|\|", line.split(" #")[0]) if re.search(r"\balice ", part)
            ]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found += re.findall(r"`(alice [a-z][^`]*)`", prose)
    return [call[call.index("alice ") :] for call in found]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page):
    for call in calls(page.read_text(encoding="utf-8")):
        words = shlex.split(call.replace("…", " "))
        command = words[1]
        if command.startswith("-") or command == "COMMAND":
            continue
        assert command in COMMANDS, f"{page.name}: no command {command!r} in `{call}`"
        fields = config_class(command).model_fields
        for word in words[2:]:
            if word.startswith("--"):
                option = re.split(r"[.=\]]", word[2:])[0].replace("-", "_")
                known = {option, f"{option}_", option.removeprefix("no_")} & {*fields, *GLOBAL}
                assert known, f"{page.name}: alice {command} has no option {word!r} in `{call}`"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target} is not there"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_snippets_parse_and_their_imports_exist(page):
    for body in fenced(page.read_text(encoding="utf-8"), ("python",)):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{page.name}: no {alias.name} in {node.module}"


@pytest.fixture(scope="module")
def reference():
    return runpy.run_path(str(ROOT / "docs/reference/generate.py"))


SCHEMAS = [f"schemas/{name}.json" for name in (*COMMANDS, "splits")]


@pytest.mark.parametrize("name", ["commands.md", "methods.md", "files-you-write.md", "python.md", *SCHEMAS])
def test_reference_is_what_the_program_says(reference, name):
    kept = (ROOT / "docs/reference" / name).read_text(encoding="utf-8")
    assert kept == reference["PAGES"][name](), f"{name} is out of date: run python docs/reference/generate.py"
    assert set(reference["PAGES"]) == {"commands.md", "methods.md", "files-you-write.md", "python.md", *SCHEMAS}
    assert {path.name for path in (ROOT / "docs/reference/schemas").iterdir()} == {Path(one).name for one in SCHEMAS}


@pytest.mark.parametrize("name", COMMANDS)
def test_kept_help_is_what_the_settings_say(reference, name, capsys):
    from alice3d.cli import HELP_TEXTS, main

    fresh = reference["HELP_TEXTS"][name]()
    kept = (HELP_TEXTS / f"{name}.txt").read_text(encoding="utf-8")
    assert kept == fresh, f"help of {name} is out of date: run python docs/reference/generate.py"
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out == fresh
    assert main([name, "--json", "--help"]) == 0  # made from the settings
    assert capsys.readouterr().out == fresh
    assert {path.stem for path in HELP_TEXTS.iterdir()} == set(COMMANDS)


def test_help_imports_no_settings():
    code = "import sys, alice3d.cli; alice3d.cli.main(['pretrain', '--help']); sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_examples_of_files_are_read(reference, tmp_path):
    from alice3d.data.sources.layouts import find_sources
    from alice3d.data.store.splits import read_splits
    from alice3d.data.tables.classes import read_class_table
    from alice3d.data.tables.label_names import read_label_names
    from alice3d.data.tables.landmarks import read_landmarks

    def written(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path

    scans, marks, classes, points = (
        written(f"{i}.csv", example) for i, (*_, example) in enumerate(reference["TABLES"])
    )
    found = find_sources(scans, None).sources
    assert [(one.id, one.split, one.label_name) for one in found] == [
        ("case_001", "train", "labels/a.nii.gz"),
        ("case_002", "pretrain", ""),
    ]
    assert set(read_landmarks(marks, reference["CASES"]).points_mm) == set(reference["CASES"])
    assert [row.name for row in read_class_table(classes)] == ["ill", "well"]
    assert [row.point_mm for row in read_class_table(points, classes=False)] == [(-2.5, 31.0, -120.4)]
    assert read_splits(written("s.json", reference["SPLITS_EXAMPLE"]))["case_003"] == "test"
    for i, example in enumerate(reference["NAME_FILES"]):
        assert read_label_names(str(written(f"{i}.json", example)))[1] == "liver"


def fits(value, schema):
    """Whether a schema that is made of objects knows all keys of a value."""
    if not isinstance(value, dict):
        return True
    if "anyOf" in schema and "properties" not in schema:
        return any(fits(value, one) for one in schema["anyOf"])
    inside, more = schema.get("properties", {}), schema.get("additionalProperties")
    if isinstance(more, dict):
        return all(fits(one, more) for one in value.values())
    return set(value) <= set(inside) and all(fits(one, inside[key]) for key, one in value.items())


@pytest.mark.parametrize("recipe", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_fit_the_schema_of_their_command(recipe):
    text = recipe.read_text(encoding="utf-8")
    command = re.search(r"^# alice ([a-z-]+) ", text, re.MULTILINE)[1]
    schema = json.loads((ROOT / f"docs/reference/schemas/{command}.json").read_text(encoding="utf-8"))
    content = yaml.safe_load(text)
    assert fits(content, schema)
    assert not fits({**content, "stepz": 1}, schema)
    if "options" in content:
        assert not fits({"options": {"dense_wait": 0}}, schema)


def test_readme_gives_the_two_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt . && .venv/bin/alice demo" in text
    assert "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[dev]' && .venv/bin/pytest" in text


def test_constraints_cover_what_is_declared():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    names = {re.split(r"[<>=\[; ]", line)[0].lower().replace("_", "-") for line in declared}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}
    assert names <= pinned
    dependencies = (ROOT / "docs/reference/dependencies.md").read_text(encoding="utf-8").lower()
    assert [name for name in sorted(names) if name not in dependencies] == []
