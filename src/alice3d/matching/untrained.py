"""The baseline of a matcher's architecture: the same network with random weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from alice3d.data.store import Case, Store
from alice3d.matching.joining import join_backbone_maps
from alice3d.matching.matcher import Matcher
from alice3d.nn.heads.embedding import FPN3D
from alice3d.weights.card import crop_of
from alice3d.weights.files import backbone_of


def untrained_matcher(matcher: Matcher, store: Store, cases: Sequence[Case], *, seed: int = 0) -> Matcher:
    """A matcher like another one, but with random weights.

    Where the other joins its backbone's maps, so does this one: they are then standardised over the given scans, since
    those that the other learnt from may not be at hand.

    Args:
        matcher: the other.
        store, cases: the scans that will be matched.
        seed: of the weights; the global random state stays as it is.
    """
    card = matcher.card
    settings = card.get("matching", {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FPN3D(
            backbone_of(card),
            fine_width=int(settings.get("fine_width", 32)),
            coarse_width=int(settings.get("coarse_width", 64)),
        )
    if settings.get("trunk"):
        device = torch.device(matcher.device)
        join_backbone_maps(
            network, store, list(cases), matcher.rule, matcher.spacing_mm, crop=crop_of(card), device=device
        )
    return Matcher(network, card, f"untrained-{seed}", device=matcher.device)
