"""Which parsers of command lines meet what `alice` needs, with how much code of ours, and how fast.

pip install cyclopts jsonargparse pydantic-settings tyro
python benchmarks/command_line/measure.py [--rounds 15] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import inspect
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CANDIDATES = {
    "ours": "",
    "with_cyclopts": "cyclopts",
    "with_jsonargparse": "jsonargparse",
    "with_pydantic_settings": "pydantic-settings",
    "with_tyro": "tyro",
}
YAML = "windows: -160:40\nlearning-rate: 3e-4\noptions: {dense_weight: 5e-1, hidden: 64}\n"
GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "flags and choices": (
        "prepare scans store --modality ct --dry-run --spacing 1,2,3",
        {"modality": "ct", "dry_run": True, "spacing": "1,2,3"},
    ),
    "options with _": ("prepare scans store --dry_run --label_names x", {"dry_run": True, "label_names": "x"}),
    "options with =": ("pretrain s o --learning-rate=3e-4", {"learning_rate": 3e-4}),
    "--no-X": ("pretrain s o --local-affine --no-mask-regions", {"local_affine": True, "mask_regions": False}),
    "a list by place in the middle": (
        "landmarks m a b out --landmarks l.csv",
        {"matcher": "m", "scans": ["a", "b"], "out": "out"},
    ),
    "words by place after options": (
        "landmarks --landmarks l.csv m a b out --seed 3",
        {"matcher": "m", "scans": ["a", "b"], "out": "out", "seed": 3},
    ),
    "words by place that depend on options": ("prepare --verify store", {"scans": "store", "verify": True}),
    "a value that begins with -": ("pretrain s o --windows -160:40", {"windows": "-160:40"}),
    "groups": (
        "pretrain s o --options.dense_weight 0 --options.teacher_temperature 0.04,0.07",
        {"options": {"dense_weight": 0.0, "teacher_temperature": [0.04, 0.07]}},
    ),
    "lists with commas": (
        "compare s o --labels 2,5 --methods alice,mae",
        {"labels": [2, 5], "methods": ["alice", "mae"]},
    ),
    "words of groups as they are": (
        "compare s o --pretrain.windows -160:40 --pretrain.licence 007 --linear.linear_views 1",
        {"pretrain": {"windows": "-160:40", "licence": "007"}, "linear": {"linear_views": 1}},
    ),
    "YAML beneath the line": (
        "pretrain s o --config ok.yaml --steps 7",
        {"windows": "-160:40", "learning_rate": 3e-4, "steps": 7},
    ),
    "groups of YAML and line joined": (
        "pretrain s o --config ok.yaml --options.dense_weight 2",
        {"options": {"dense_weight": 2.0, "hidden": 64}},
    ),
    "a shipped recipe by name": ("pretrain s o --config mae --batch 2", {"method": "mae", "batch": 2, "crop": 48}),
    "words by place from YAML": ("inspect --config store.yaml", {"store": "s", "thumbnails": 5}),
    "--json and --debug": ("pretrain s o --json --debug", {"JSON": True}),
}
"""Name of a requirement to a call and settings that it must make."""
BAD: dict[str, tuple[str, str]] = {
    "unknown option: nearest": ("landmarks m s o --lanmarks x", "--landmarks"),
    "unknown key of YAML: nearest": ("pretrain s o --config bad.yaml", "method"),
    "missing file of settings": ("pretrain s o --config none.yaml", "none.yaml"),
    "unknown short option": ("pretrain s o -r 3", "-r"),
    "wrong choice": ("pretrain s o --partner matchd", "partner matchd matched random"),
    "wrong number": ("pretrain s o --rotation fast", "rotation fast number"),
    "too small a number": ("pretrain s o --rotation -4", "rotation 0 -4"),
    "option without a value": ("pretrain s o --rotation", "rotation"),
    "too few words by place": ("pretrain s", "STORE OUT"),
    "group without a key": ("pretrain s o --options 3", "options.KEY"),
    "key for what is no group": ("pretrain s o --rotation.x 3", "rotation"),
    "required option missing": ("landmarks m s o", "landmarks"),
}
"""Name of a requirement to a wrong call, and the words that its one line on standard error must hold: the option, the
value that was given, what is allowed. The exit code is 2, and nothing stands on standard output."""
OF_PYTHON = ("<class", "typing.", "Literal[", "validation error", "dict[", "into float")
"""Words of such a line that mean nothing to a user."""
HELP = {
    "help: words by place": "usage: alice pretrain STORE OUT",
    "help: a default": r"Share of the patches that the\s+encoder does not\s+see\.[^\d]{0,60}0\.75",
    "help: choices": r"auto\W+same\W+matched\W+random",
    "help: an option": "--hidden[-_]share",
    "help: how a group is given": r"(?m)^[ │]*--options\.",
    "help: usage in a line": r"(?mi)^usage: .*\n\n",
    "help: no None for what may be left out": r"(?s)\A(?!.*None)",
}
"""Patterns that `alice pretrain --help` shows, whatever its layout."""


def call(name: str, words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a candidate."""
    paths = [str(HERE), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    line = [sys.executable, str(HERE / f"{name}.py"), *words.split()]
    return subprocess.run(line, capture_output=True, text=True, env=env, cwd=folder, check=False)


def failures(name: str, folder: Path) -> list[str]:
    """Requirements that a candidate does not meet."""
    failed = []
    for what, (words, wanted) in GOOD.items():
        done = call(name, words, folder)
        made = json.loads(done.stdout) if done.returncode == 0 else {}
        if any(made.get(key) != value for key, value in wanted.items()):
            failed.append(what)
    for what, (words, named) in BAD.items():
        done = call(name, words, folder)
        said = done.stderr
        clear = all(word in said for word in named.split()) and not any(word in said for word in OF_PYTHON)
        if done.returncode != 2 or done.stdout or said.count("\n") != 1 or not clear:
            failed.append(what)
    shown = call(name, "pretrain --help", folder).stdout
    return failed + [what for what, pattern in HELP.items() if not re.search(pattern, shown)]


def code_lines(source: str) -> int:
    """Lines that hold code: neither blank, nor comments, nor docstrings."""
    tree = ast.parse(source)
    texts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = source.splitlines()
    return sum(1 for i, line in enumerate(lines, 1) if line.strip() and line.strip()[0] != "#" and i not in texts)


def lines_of_ours(name: str) -> tuple[int, int]:
    """Code that we would keep: the candidate's file and what it takes from alice3d.options; with our help, too."""
    from alice3d import options

    if name == "ours":
        return (code_lines(inspect.getsource(options)),) * 2
    text = (HERE / f"{name}.py").read_text(encoding="utf-8")
    kept = text.split("KEPT = (")[1].split(")")[0].split(",")
    sources = [inspect.getsource(getattr(options, word.strip())) for word in kept if word.strip()]
    own = code_lines(text) + sum(code_lines(source) for source in sources)
    shown = [options.describe, options._in_order, options._type_name, options.choices, options.dashed]
    missing = [one for one in shown if one.__name__ not in text.split("KEPT = (")[1].split(")")[0]]
    return own, own + sum(code_lines(inspect.getsource(one)) for one in missing) + len(options.GLOBAL) + 2


def seconds(line: list[str], name: str, folder: Path, found: dict[str, list[float]]) -> None:
    """Wall clock and processor time of one process."""
    paths = [str(HERE), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    before, begun = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *line], stdout=subprocess.DEVNULL, env=env, cwd=folder, check=True)
    wall, after = time.perf_counter() - begun, os.times()
    found.setdefault(f"{name} wall", []).append(wall)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    found.setdefault(f"{name} cpu", []).append(used)


def main() -> None:
    """Measure every candidate whose library is installed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    (folder / "ok.yaml").write_text(YAML)
    (folder / "bad.yaml").write_text("metod: mae\n")
    (folder / "store.yaml").write_text("store: s\nthumbnails: 5\n")
    versions = {name: importlib.metadata.version(library) if library else "" for name, library in CANDIDATES.items()}
    times: dict[str, list[float]] = {}
    for _ in range(given.rounds):  # interleaved, so that a busy moment of the machine meets all alike
        for name in CANDIDATES:
            seconds([str(HERE / f"{name}.py"), "pretrain", "--help"], name, folder, times)
    imports: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        seconds(["-c", "import pydantic, yaml"], "base", folder, imports)
        for name, library in CANDIDATES.items():
            if library:
                module = library.replace("-", "_")
                seconds(["-c", f"import pydantic, yaml, {module}"], name, folder, imports)
    base = statistics.median(imports["base cpu"])
    rows = {}
    for name, library in CANDIDATES.items():
        failed = failures(name, folder)
        rows[name] = {
            "library": library,
            "version": versions[name],
            "lines_of_ours": lines_of_ours(name)[0],
            "lines_of_ours_with_our_help": lines_of_ours(name)[1],
            "help_seconds": round(statistics.median(times[f"{name} wall"]), 3),
            "help_least_seconds": round(min(times[f"{name} wall"]), 3),
            "help_cpu_seconds": round(statistics.median(times[f"{name} cpu"]), 3),
            "import_cpu_seconds": round(statistics.median(imports[f"{name} cpu"]) - base, 3) if library else 0.0,
            "requirements": len(GOOD) + len(BAD) + len(HELP),
            "failed": failed,
        }
        print(json.dumps({name: rows[name]}), flush=True)
    about = {
        "python": platform.python_version(),
        "pydantic": importlib.metadata.version("pydantic"),
        "rounds": given.rounds,
    }
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps({**about, "candidates": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
