"""Where a crop lies among base crops, told by similarity: the losses of VoCo."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-6
"""Keeps logarithms finite."""


def similarities(targets_btd: Float[Tensor, "b t d"], bases_bkd: Float[Tensor, "b k d"]) -> Float[Tensor, "b t k"]:
    """Cosines of each target with each base of its scan, those below 0 set to 0."""
    targets, bases = (F.normalize(rows.float(), dim=-1) for rows in (targets_btd, bases_bkd))
    return F.relu(targets @ bases.transpose(1, 2))


def overlap_loss(
    similarity_btk: Float[Tensor, "b t k"],
    overlap_btk: Float[Tensor, "b t k"],
    *,
    negatives: Literal["square", "log"] = "square",
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """A target's similarity to each base is the share of it that lies in the base.

    As the published code does, not as equation 3 of the paper (VoCo, Wu et al., CVPR 2024) says: overlapping bases are
    weighted by their share, and the others have a term of their own.

    Args:
        similarity_btk: from 0 to 1.
        overlap_btk: share of each target's volume in each base; a target's shares sum to 1.
        negatives: of bases without overlap: the square of the similarity (version 1), or -log(1 - s) (version 2).

    Returns:
        Σ y (-log(1 - |y - s|)) / Σ y over the bases that overlap, and the mean over those that do not (0 if none).
    """
    apart = (overlap_btk - similarity_btk).abs()
    positive = (overlap_btk * -(1 - apart).clamp_min(EPSILON).log()).sum() / overlap_btk.sum().clamp_min(EPSILON)
    away = overlap_btk == 0
    each = similarity_btk.square() if negatives == "square" else -(1 - similarity_btk).clamp_min(EPSILON).log()
    return positive, (each * away).sum() / away.sum().clamp_min(1)


def overlap_loss_as_printed(
    similarity_btk: Float[Tensor, "b t k"], overlap_btk: Float[Tensor, "b t k"]
) -> Float[Tensor, ""]:
    """Equation 3 of the paper: the mean of -log(1 - |y - s|) over all bases."""
    return -(1 - (overlap_btk - similarity_btk).abs()).clamp_min(EPSILON).log().mean()


def base_repulsion(bases_bkd: Float[Tensor, "b k d"]) -> Float[Tensor, ""]:
    """Bases of one scan are to differ: the mean square of the positive cosines between two of them.

    The published code detaches one base of each pair, so that the last takes no gradient; here both take it.
    """
    bases = F.normalize(bases_bkd.float(), dim=-1)
    k = bases.shape[1]
    first, second = torch.triu_indices(k, k, offset=1, device=bases.device)
    cosine = bases @ bases.transpose(1, 2)
    return F.relu(cosine[:, first, second]).square().mean()
