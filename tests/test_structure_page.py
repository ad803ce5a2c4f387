"""The reference describes every folder by its docstring."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "structure.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the tests run outside a checkout")


def test_the_page_is_what_the_code_says() -> None:
    page = runpy.run_path(str(PAGE.with_name("generate_structure.py")))
    text = page["structure_page"]()
    assert PAGE.read_text(encoding="utf-8") == text, "out of date: run python docs/reference/generate_structure.py"
    folders = {path.parent.relative_to(page["PACKAGE"]).as_posix() for path in page["PACKAGE"].rglob("*/__init__.py")}
    assert all(f"| `{folder}/` | " in text for folder in folders)
