"""What a name given to `alice compare --methods` means: a method before a recipe, and never both."""

from pathlib import Path

import pytest
import yaml

from alice3d import config
from alice3d.comparison.arms import UNTRAINED
from alice3d.comparison.run import arms_of
from alice3d.comparison.settings import CompareConfig
from alice3d.errors import UserError
from alice3d.methods.base import method_names


def arms(**given):
    return arms_of(CompareConfig.checked({"store": "s", "out": "o", **given}, "test"))


@pytest.fixture
def recipes(monkeypatch, tmp_path):
    """`recipes(sam={...})` ships these recipes instead."""

    def ship(**contents):
        for name, content in contents.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        monkeypatch.setattr(config, "RECIPES", tmp_path)

    return ship


@pytest.mark.parametrize("name", ["sam", "scratch", "mae"])
def test_a_recipe_for_another_method_of_that_name_is_refused(recipes, name):
    recipes(**{name: {"steps": 7}})
    said = rf"--methods: '{name}' is a method, and a recipe for method 'alice'; say which .*`recipe: {name}`"
    with pytest.raises(UserError, match=said):
        arms(methods=name)


def test_each_meaning_can_be_said(recipes):
    recipes(sam={"steps": 7})
    made = arms(arms={"one": {"method": "sam"}, "two": {"recipe": "sam"}})
    assert made["one"].pretrain["method"] == "sam"
    assert "steps" not in made["one"].pretrain
    assert made["two"].pretrain["steps"] == 7


def test_a_method_comes_before_its_own_recipe(recipes):
    recipes(sam={"method": "sam", "steps": 7}, other={"method": "sam", "steps": 8})
    made = arms(methods="sam,other")
    assert "steps" not in made["sam"].pretrain
    assert made["other"].pretrain["steps"] == 8


def test_a_shipped_recipe_that_is_named_like_a_method_is_for_it():
    names = (*method_names(), *UNTRAINED)
    alike = {path.stem: path for path in Path(config.RECIPES).glob("*.yaml") if path.stem in names}
    assert set(alike) == {"alice", "mae"}
    for name, path in alike.items():
        assert yaml.safe_load(path.read_text(encoding="utf-8")).get("method", "alice") == name
        assert arms(methods=name)[name].pretrain["method"] == name
