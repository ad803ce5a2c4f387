"""The package's parts import one way only, lazy imports included, and commands load nothing heavy before they run."""

import ast
import functools
from pathlib import Path

import pytest

import alice3d

ROOT = Path(alice3d.__file__).parent
LAYERS = (
    ("errors", "version", "console", "files", "metrics", "distributed"),
    ("config", "geometry", "losses", "outputs", "executors", "plugins", "device"),
    ("io", "nn", "phantom", "options"),
    ("data",),
    ("weights", "methods"),
    ("matching", "engine"),
    ("tasks",),
    ("evaluation",),
    ("pretraining",),
    ("api",),
    ("report",),
    ("commands",),
    ("cli", "__main__"),
)
"""Nothing imports what stands in a later line."""
HEAVY = {"torch", "numpy", "scipy", "nibabel", "blosc2", "matplotlib", "safetensors", "jaxtyping", "surface_distance"}
LONGEST_FILE = 300


def layer_of(part: str) -> int:
    """Place of `nn`, `matching`, ... in the order; `matching_cache` counts as `matching`."""
    for place, parts in enumerate(LAYERS):
        if part in parts or part.split("_")[0] in parts:
            return place
    raise AssertionError(f"alice3d.{part} stands in no layer: add it to LAYERS here and to pyproject.toml")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: list[ast.AST]) -> set[str]:
    """Dotted names that these nodes import."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports inside the package are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def parts_imported(path: Path) -> set[str]:
    """Parts of the package that a file imports anywhere, functions included."""
    names = (name.split(".") for name in imported(list(ast.walk(tree_of(path)))))
    known = {file.stem for file in ROOT.glob("*.py")} | {folder.name for folder in ROOT.iterdir() if folder.is_dir()}
    return {name[1] for name in names if name[0] == "alice3d" and len(name) > 1 and name[1] in known}


FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


@pytest.mark.parametrize("name", [name for name in FILES if name != "__init__.py"])
def test_imports_go_one_way(name):
    own = Path(name).parts[0].removesuffix(".py")
    for part in parts_imported(ROOT / name):
        assert layer_of(part) <= layer_of(own), f"{name} imports alice3d.{part}, which stands right of it"


def test_pairs_do_not_need_the_matcher():
    for path in (ROOT / "data").rglob("*.py"):
        assert not any(part.startswith("matching") for part in parts_imported(path)), path.name


def top_level(path: Path) -> list[ast.AST]:
    """What runs on import: everything outside functions and `if TYPE_CHECKING`."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = list(tree_of(path).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(node)
            todo += list(ast.iter_child_nodes(node))
    return found


def loaded_on_import(name: str, seen: set[str]) -> set[str]:
    """Outside packages that importing an alice3d file loads, through other files too."""
    seen.add(name)
    outside: set[str] = set()
    for module in imported(top_level(ROOT / name)):
        parts = module.split(".")
        if parts[0] != "alice3d":
            outside.add(parts[0])
            continue
        for length in range(len(parts), 0, -1):
            stem = Path(*parts[1:length])
            near = next(
                (n for n in (f"{stem.as_posix()}.py", (stem / "__init__.py").as_posix()) if (ROOT / n).is_file()), None
            )
            if near:
                if near not in seen:
                    outside |= loaded_on_import(near, seen)
                break
    return outside


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.startswith("commands/") or name in ("cli.py", "__init__.py", "__main__.py")]
)
def test_nothing_heavy_before_a_command_runs(name):
    heavy = loaded_on_import(name, set()) & HEAVY
    assert not heavy, f"importing {name} loads {', '.join(sorted(heavy))}"


@pytest.mark.parametrize("name", FILES)
def test_files_stay_short(name):
    lines = (ROOT / name).read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_FILE, f"{name} has {lines} lines, at most {LONGEST_FILE}: split it after its ideas"
    assert Path(name).stem not in ("utils", "helpers", "misc")


def test_every_module_says_what_it_is_for():
    assert [name for name in FILES if not ast.get_docstring(tree_of(ROOT / name))] == []
