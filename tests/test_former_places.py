"""Modules that moved can still be imported from where they were, with a warning."""

from __future__ import annotations

import importlib

import pytest

MOVED = {
    "alice3d.data.label_writing": ("alice3d.io.write", "write_label"),
    "alice3d.data.read": ("alice3d.io.read", "read_header"),
    "alice3d.data.volumes": ("alice3d.data.store.read_grid", "read_case"),
}


@pytest.mark.parametrize("former", MOVED)
def test_a_former_place_leads_to_the_present_one(former: str) -> None:
    present, name = MOVED[former]
    with pytest.warns(DeprecationWarning, match=f"has moved to {present}"):
        module = importlib.reload(importlib.import_module(former))
    assert getattr(module, name) is getattr(importlib.import_module(present), name)
