"""Methods are found by name, their settings by key, and what is wrong with either is said in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from alice3d.errors import UserError
from alice3d.methods.alice import Alice
from alice3d.methods.base import find_method, method_config


def test_methods_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_method("alice") is Alice
    (tmp_path / "own_methods").mkdir()
    (tmp_path / "own_methods" / "quiet.py").write_text(
        "from alice3d.methods.mae import MAE\nfrom alice3d.methods.base import PretrainMethod\n"
        "class Quiet(PretrainMethod):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert find_method("own_methods.quiet").__name__ == "Quiet"
    sys.modules.pop("own_methods.quiet")
    with pytest.raises(UserError, match="did you mean 'alice'"):
        find_method("alcie")
    for name, text, said in (
        ("loud", None, "ModuleNotFoundError: No module named"),
        ("broken", "def f(:\n", r"SyntaxError: .*broken\.py, line 1"),
        ("wishful", "from alice3d.methods.base import Nope\n", "ImportError: cannot import name 'Nope'"),
        ("hasty", "1 / 0\n", "ZeroDivisionError: division by zero"),
    ):
        if text is not None:
            (tmp_path / "own_methods" / f"{name}.py").write_text(text)
        with pytest.raises(UserError, match=f"'own_methods.{name}' cannot be imported .{said}") as caught:
            find_method(f"own_methods.{name}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dense_wieght": 1}, "did you mean 'dense_weight'"),
        ({"dense_weight": -1}, r"options\.dense_weight.*-1"),
        ({"teacher_temperature": "0,0"}, r"options\.teacher_temperature\.0: .*greater than 0"),
        (
            {f"{name}_weight": 0 for name in ("class", "patch", "reconstruction", "dense")},
            "^options: class_weight, .* koleo_weight are all 0: nothing is left to learn; give one of them a weight$",
        ),
    ],
)
def test_wrong_options_name_the_nearest(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        method_config(Alice, options)
