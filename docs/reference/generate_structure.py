"""Writes structure.md from the docstrings and pyproject.toml: `python docs/reference/generate_structure.py`."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

FOLDER = Path(__file__).parent
PACKAGE = FOLDER.parents[1] / "src" / "alice3d"
STRUCTURE = """# Structure of the code

Made from the docstrings and `pyproject.toml` by `docs/reference/generate_structure.py`.

## Folders

| Folder of `src/alice3d` | What is in it |
|---|---|
{folders}

`configs/` holds the recipes, YAML files for `--config NAME`; `weights/shipped/` the weights that come with the package.

## Modules beside the folders

| Module | What is in it |
|---|---|
{modules}

## Import order

Each line may import from the lines below it, never from those above; a test checks this for every file, imports inside
functions included. `cli` imports a command only when it is called.

```text
{layers}
```

Within `data`: `preprocessing` and `pairs` come first, then `store`, `tables` and `sampling`, `sources`, `prepare`.

## Where a file is not where you may expect it

- **Settings are beside the code that they configure**, not in the command: `pretraining/settings.py`,
  `tasks/settings.py`, `matching/settings.py`, `comparison/settings.py`, `engine/settings.py`. A command whose
  settings no other code needs defines them itself. Importing settings loads neither torch nor numpy.
- **`tasks/NAME/task.py` holds the class that `tasks/run.py` calls** for fine-tuning, evaluation and prediction. A new
  task is a new folder with a `task.py`.
- **`plugins.py` finds methods, backbones and tasks** by listing their folder, or imports `package.module` of your own.
  There is no list of names to extend.
- **`device.py` is at the bottom of the import order**: networks, matching and training all choose their device and
  precision there.
- **`api/` holds the calls from Python**; the public names of the package are imported by `alice3d/__init__.py`
  on first use, so that `import alice3d` is fast.
"""


def first_line(path: Path) -> str:
    """Summary of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0].replace("|", "\\|")


def structure_page() -> str:
    """Each folder and top-level module in one line, and the order of imports."""
    tools = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = [line.split(" : ") for line in tools["importlinter"]["contracts"][0]["layers"]]
    parts = [part for line in layers for part in line]
    folders = sorted(
        (path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*/__init__.py")),
        key=lambda folder: (parts.index(folder.parts[0]), folder.parts),
    )
    modules = [part for part in parts if (PACKAGE / f"{part}.py").exists()]
    return STRUCTURE.format(
        folders="\n".join(f"| `{one.as_posix()}/` | {first_line(PACKAGE / one / '__init__.py')} |" for one in folders),
        modules="\n".join(f"| `{one}.py` | {first_line(PACKAGE / f'{one}.py')} |" for one in modules),
        layers="\n".join("   ".join(line) for line in layers),
    )


if __name__ == "__main__":
    (FOLDER / "structure.md").write_text(structure_page(), encoding="utf-8")
