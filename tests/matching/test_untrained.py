"""The baseline with random weights: seeded, and of the architecture that it is the baseline of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alice3d.data.store import Store
from alice3d.matching.matcher import Matcher
from alice3d.matching.untrained import untrained_matcher


@pytest.mark.parametrize("joined", [True, False])
def test_it_is_seeded_and_has_the_architecture_of_the_card(tiny_store: Path, tiny_matcher: Path, joined: bool) -> None:
    matcher, store = Matcher.load(str(tiny_matcher)), Store.open(tiny_store)
    matcher.card = {**matcher.card, "matching": {**matcher.card["matching"], "trunk": joined}}
    cases = store.cases()[:2]
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two, other = (untrained_matcher(matcher, store, cases, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [made.network.state_dict() for made in (one, two, other)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert any(not torch.equal(value, states[2][key]) for key, value in states[0].items())
    plain = matcher.embed_case(store, cases[0])
    channels = len(one.embed_case(store, cases[0]).fine)
    assert (channels > len(plain.fine)) == joined  # those of the backbone's finer maps as well
