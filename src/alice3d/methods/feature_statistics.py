"""What the features of a run look like while it learns: rank, spread, and agreement of corresponding places."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alice3d.data.sampling.base import Correspondence, Sampler
from alice3d.losses.contrast import sample_at
from alice3d.nn.backbones.base import Backbone


def effective_rank(features_nd: Float[Tensor, "n d"]) -> float:
    """Directions that centred features use: e^entropy of their singular values as shares of the sum.

    After RankMe (Garrido et al., ICML 2023), there without centring. From 1 (all on a line) to min(n - 1, d).
    """
    centred = features_nd.float() - features_nd.float().mean(dim=0)
    values = torch.linalg.svdvals(centred.cpu())  # not every device has it
    total = values.sum()
    if float(total) == 0:
        return 1.0
    share = values / total
    return float((-(share * share.clamp_min(1e-12).log()).sum()).exp())


def relative_deviation(features_nd: Float[Tensor, "n d"]) -> float:
    """Root mean square of what tells features apart, over that of the features: 0 = all equal, 1 = centred."""
    features = features_nd.float()
    whole = features.square().mean().sqrt()
    return float((features - features.mean(dim=0)).square().mean().sqrt() / whole.clamp_min(1e-12))


def view_agreement(
    backbone: Backbone, tokens: dict[str, Tensor], shape: tuple[int, ...], places: Correspondence
) -> float:
    """Mean cosine between tokens at corresponding places of both views; NaN where no place corresponds.

    Tokens are centred over all of them first, so that 0 means: no more alike than any two places.

    Args:
        backbone: that gave the tokens.
        tokens: (b, n, d) of each view by its key.
        shape: of a view, in voxels.
        places: which correspond.
    """
    if not bool(places.valid.any()):
        return float("nan")
    grid = backbone.token_grid(shape)
    mean = torch.cat([tokens[places.first], tokens[places.second]]).float().mean(dim=(0, 1))

    def at_points(tokens_bnd: Tensor, points: Tensor) -> Tensor:
        features = (tokens_bnd.float() - mean).transpose(1, 2).reshape(len(tokens_bnd), -1, *grid)
        return sample_at(features, points, shape)[places.valid]

    one, other = (
        at_points(tokens[places.first], places.points_first),
        at_points(tokens[places.second], places.points_second),
    )
    return float(nn.functional.cosine_similarity(one, other, dim=-1).mean())


def watch_features(backbone: Backbone, sampler: type[Sampler], batch: dict[str, Tensor]) -> dict[str, float]:
    """Rank and spread of the tokens of a batch's views, and how well they agree at corresponding places.

    Args:
        backbone: in evaluation mode; no gradient flows.
        sampler: the kind of samples: it says which crops are views, and what corresponds.
        batch: of a few samples.
    """
    views = [batch[name] for name in sampler.views]
    _, tokens = backbone.tokens(torch.cat(views))
    flat = tokens.flatten(0, 1)
    found = {"feature_rank": effective_rank(flat), "feature_deviation": relative_deviation(flat)}
    places = sampler.correspondence(batch)
    if places is not None:
        by_view = dict(zip(sampler.views, torch.split(tokens, [len(view) for view in views]), strict=True))
        cosine = view_agreement(backbone, by_view, tuple(views[0].shape[2:]), places)
        found |= {} if math.isnan(cosine) else {"view_agreement": cosine}
    return found
