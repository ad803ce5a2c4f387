"""The package's parts import one way only, lazy imports included, and commands load nothing heavy before they run."""

import ast
import functools
from pathlib import Path

import pytest

import alice3d

ROOT = Path(alice3d.__file__).parent
LAYERS = (
    ("errors", "version", "console", "files", "memory", "metrics", "distributed"),
    (
        *("config", "geometry", "losses", "executors", "plugins", "device"),
        *("outputs", "apart", "locks", "replacement", "same_settings"),
    ),
    ("io", "nn", "phantom", "cli_arguments"),
    ("data",),
    ("weights", "methods"),
    ("matching", "engine"),
    ("tasks",),
    ("evaluation",),
    ("pretraining",),
    ("api",),
    ("report",),
    ("comparison",),
    ("commands",),
    ("cli", "__main__"),
)
"""Nothing imports what stands in a later line."""
HEAVY = {"torch", "numpy", "scipy", "nibabel", "blosc2", "matplotlib", "safetensors", "jaxtyping", "surface_distance"}
LONGEST_FILE = 300


def layer_of(part: str) -> int:
    """Place of `nn`, `matching`, ... in the order."""
    for place, parts in enumerate(LAYERS):
        if part in parts:
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


def module_file(module: str) -> str | None:
    """File of the package that a dotted name leads to; of `alice3d.a.b.name` that of `alice3d.a.b`."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        stem = Path(*parts[1:length])
        for name in (f"{stem.as_posix()}.py", (stem / "__init__.py").as_posix()):
            if (ROOT / name).is_file():
                return name
    return None


@functools.cache
def files_imported(name: str) -> frozenset[str]:
    """Files of the package that a file imports anywhere: functions and `if TYPE_CHECKING` included."""
    inside = [module for module in imported(list(ast.walk(tree_of(ROOT / name)))) if module.split(".")[0] == "alice3d"]
    return frozenset(found for module in inside if (found := module_file(module)) is not None)


FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def part_of(name: str) -> str:
    return Path(name).parts[0].removesuffix(".py")


@pytest.mark.parametrize("name", [name for name in FILES if name != "__init__.py"])
def test_imports_go_one_way(name):
    own = part_of(name)
    for other in files_imported(name):
        assert other != "__init__.py", f"{name} imports the package root, which imports everything else"
        assert layer_of(part_of(other)) <= layer_of(own), f"{name} imports {other}, which stands above it"
        same = part_of(other) != own and layer_of(part_of(other)) == layer_of(own)
        assert not (same and own in {part_of(back) for back in reached(other)}), f"{name} and {other} import each other"


@functools.cache
def reached(name: str) -> frozenset[str]:
    """Files that a file imports, through others too."""
    found: set[str] = set()
    todo = [name]
    while todo:
        for other in files_imported(todo.pop()):
            if other not in found:
                found.add(other)
                todo.append(other)
    return frozenset(found)


@pytest.mark.parametrize("name", FILES)
def test_no_circle_of_files(name):
    assert name not in reached(name), f"{name} imports itself through {sorted(reached(name))}"


INSIDE_DATA = (("preprocessing",), ("pairs",), ("store",), ("tables", "sampling"), ("sources",), ("prepare",))
"""Within `data`, nothing imports what stands in a later group."""


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("data/") and name.count("/") == 2])
def test_data_flows_one_way_inside_its_folder(name):
    def place(folder):
        return next(number for number, group in enumerate(INSIDE_DATA) if folder in group)

    for other in files_imported(name):
        if other.startswith("data/") and other.count("/") == 2:
            assert place(Path(other).parts[1]) <= place(Path(name).parts[1]), f"{name} imports {other}"


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
        if module.split(".")[0] != "alice3d":
            outside.add(module.split(".")[0])
        elif (near := module_file(module)) is not None and near not in seen:
            outside |= loaded_on_import(near, seen)
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
