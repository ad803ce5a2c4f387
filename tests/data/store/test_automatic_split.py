"""`--split auto` of self-supervised training takes nothing that may be held out."""

import json
import shutil

import pytest

from alice3d.commands.demo import DemoConfig
from alice3d.commands.demo import run as demo
from alice3d.data.prepare import PrepareOptions, prepare
from alice3d.data.store import Store
from alice3d.data.store.splits import choose_cases
from alice3d.errors import UserError


@pytest.fixture
def store_of(tiny_scans, tiny_store, tmp_path):
    """A store whose cases lie in the splits given."""

    def make(splits):
        shutil.copytree(tiny_store, tmp_path / "store")
        path = tmp_path / "splits.json"
        path.write_text(json.dumps(splits))
        prepare(tiny_scans.images, tmp_path / "store", PrepareOptions(spacing_mm=(8.0,) * 3, splits=path))
        return Store.open(tmp_path / "store")

    return make


@pytest.fixture
def names(tiny_store):
    return [case.id for case in Store.open(tiny_store).cases()]


@pytest.mark.parametrize("rest", ["fold1", None])
def test_splits_of_other_names_are_not_taken_for_training(store_of, names, rest):
    store = store_of({"heldout": names[:2], **({rest: names[2:]} if rest else {})})
    said = "--split auto takes pretrain and train, the store has only fold1, heldout; give --split"
    with pytest.raises(UserError, match=said if rest else "the store has only heldout"):
        choose_cases(store, "auto")
    if rest:
        assert [case.id for case in choose_cases(store, rest)] == names[2:]


def test_train_alone_is_taken(store_of, names):
    store = store_of({"train": names[:3], "heldout": names[3:5]})
    assert [case.id for case in choose_cases(store, "auto")] == names[:3]


def test_all_are_taken_where_no_scan_is_in_a_split(store_of, names):
    store = store_of({"train": []})
    assert store.splits == []
    assert [case.id for case in choose_cases(store, "auto")] == names


def test_demo_stops_after_preparing_where_it_may_learn_from_nothing(tiny_scans, names, tmp_path):
    (tmp_path / "splits.json").write_text(json.dumps({"fold1": names[:5], "fold2": names[5:]}))
    config = DemoConfig(scans=tiny_scans.images, splits=tmp_path / "splits.json", out=tmp_path / "out", spacing="8")
    with pytest.raises(UserError, match="--splits: the demo learns from pretrain and train, it has fold1, fold2"):
        demo(config)
