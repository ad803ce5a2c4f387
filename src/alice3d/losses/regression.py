"""Agreement without negatives: of vectors row by row, and of the products of their channels."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def cosine_regression(online_nd: Float[Tensor, "n d"], target_nd: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean of 2 - 2 cos (BYOL, Grill et al., NeurIPS 2020, equation 2): 0 where equal, 2 orthogonal, 4 opposite.

    Args:
        online_nd: takes the gradient.
        target_nd: takes none.
    """
    cosine = F.cosine_similarity(online_nd.float(), target_nd.detach().float(), dim=-1)
    return (2 - 2 * cosine).mean()


def gram_regression(online_bnd: Float[Tensor, "b n d"], target_bnd: Float[Tensor, "b n d"]) -> Float[Tensor, ""]:
    """Mean squared difference of the products of channels, summed over places; blind to the order of the places.

    Args:
        online_bnd: unit-length vectors at n places; takes the gradient.
        target_bnd: takes none.
    """
    online, target = (F.normalize(rows.float(), dim=-1) for rows in (online_bnd, target_bnd.detach()))
    return (online.transpose(1, 2) @ online - target.transpose(1, 2) @ target).square().mean()
