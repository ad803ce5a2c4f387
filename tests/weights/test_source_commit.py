"""The commit that cards name is the one of the tree the program runs from, and says where the tree differs from it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import alice3d

PACKAGE = Path(alice3d.__file__).parent
ASK = "from alice3d.weights.provenance import source_commit; print(source_commit())"
NOBODY = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.com", "-c", "commit.gpgsign=false")


def git(folder, *words):
    done = subprocess.run(["git", *NOBODY, "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def asked(source, **environment):
    """What the program says that runs from a folder of sources."""
    variables = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, env=variables, cwd=source)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A committed tree with the package in its place."""
    shutil.copytree(PACKAGE, tmp_path / "src" / "alice3d", ignore=shutil.ignore_patterns("shipped", "__pycache__"))
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'alice3d'\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "First")
    return tmp_path


def test_the_commit_is_found_and_says_where_the_tree_differs(checkout):
    git(checkout, "tag", "v1")
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "notes.txt").write_text("not tracked")
    assert asked(checkout / "src") == commit
    (checkout / "src" / "alice3d" / "version.py").open("a").write("# changed\n")
    assert asked(checkout / "src") == f"{commit}-dirty"
    git(checkout, "add", ".")
    assert asked(checkout / "src") == f"{commit}-dirty"


def test_no_commit_is_named_for_an_installed_package_or_without_git(checkout):
    (checkout / "lib").mkdir()
    (checkout / "src" / "alice3d").rename(checkout / "lib" / "alice3d")
    (checkout / "pyproject.toml").rename(checkout / "kept.toml")  # as in an environment inside another repository
    assert asked(checkout / "lib") == "None"
    (checkout / "kept.toml").rename(checkout / "pyproject.toml")
    assert asked(checkout / "lib", PATH="") == "None"
