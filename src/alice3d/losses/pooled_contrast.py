"""Contrast of whole vectors: pairs of views (NT-Xent), and rows that share a label (supervised contrast)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def nt_xent(
    first_nd: Float[Tensor, "n d"],
    second_nd: Float[Tensor, "n d"],
    temperature: float,
    *,
    excluded: Bool[Tensor, "m m"] | None = None,
) -> Float[Tensor, ""]:
    """Normalised temperature-scaled cross-entropy (SimCLR, Chen et al., ICML 2020, equation 1).

    Row i of either side is the positive of row i of the other; all other rows of both sides are negatives.

    Args:
        first_nd, second_nd: vectors of two views; they are brought to unit length.
        temperature: divides the cosines.
        excluded: (2n, 2n), the rows of `first_nd` before those of `second_nd`; True = no negative, such as another view
            of the same scan. The positive always counts.

    Returns:
        mean over the 2n rows; ln(2n - 1) where all rows are equal.
    """
    n = len(first_nd)
    rows = F.normalize(torch.cat([first_nd, second_nd]).float(), dim=-1)
    scores = rows @ rows.T / temperature
    twin = torch.arange(2 * n, device=rows.device).roll(n)
    left_out = torch.eye(2 * n, dtype=torch.bool, device=rows.device)
    if excluded is not None:
        left_out = left_out | excluded.scatter(1, twin[:, None], False)
    return F.cross_entropy(scores.masked_fill(left_out, float("-inf")), twin)


def supervised_contrast(
    views_vnd: Float[Tensor, "v n d"], labels_n: Int[Tensor, " n"], temperature: float
) -> Float[Tensor, ""]:
    """Rows of one label agree, in all views (SupCon, Khosla et al., NeurIPS 2020, equation 2).

    Args:
        views_vnd: vectors at the same n places in v >= 2 views; they are brought to unit length.
        labels_n: label of each place.
        temperature: divides the cosines.

    Returns:
        mean over all rows of -mean_p log(e^{s_ip} / Σ_{a ≠ i} e^{s_ia}), p over the other rows of i's label.
    """
    rows = F.normalize(views_vnd.flatten(0, 1).float(), dim=-1)
    labels = labels_n.repeat(len(views_vnd))
    own = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    log_share = F.log_softmax((rows @ rows.T / temperature).masked_fill(own, float("-inf")), dim=1)
    positive = (labels[:, None] == labels[None]) & ~own
    return -(log_share.masked_fill(~positive, 0).sum(dim=1) / positive.sum(dim=1)).mean()
