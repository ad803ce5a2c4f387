"""Contrastive loss between corresponding points: the same anatomy is similar, all other positions are not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributed import ReduceOp
from torch.nn import functional as F

from alice3d.distributed import all_reduce


def sample_at(features: Float[Tensor, "b d x y z"], points: Float[Tensor, "b n 3"], shape: tuple[int, ...]) -> Tensor:
    """Read a feature map at voxel positions, trilinearly.

    Args:
        features: map of any stride over a crop; feature f is centred on voxel (f + 0.5) s - 0.5.
        points: fractional voxel indices (x, y, z) in the crop.
        shape: the crop's sides in voxels.

    Returns:
        (b, n, d) float32. Points outside the crop read its border.
    """
    sides = torch.tensor(shape, dtype=torch.float32, device=points.device)
    unit = (2 * points.float() + 1) / sides - 1  # -1 and 1 are the outer faces of the crop
    grid = unit.flip(-1)[:, :, None, None, :]  # grid_sample expects the last axis first
    read = F.grid_sample(features.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return read[..., 0, 0].transpose(1, 2)


def point_contrast(
    query_nd: Float[Tensor, "n d"],
    positive_nd: Float[Tensor, "n d"],
    candidates_md: Float[Tensor, "m d"],
    ignored_nm: Bool[Tensor, "n m"],
    temperature: float,
) -> Float[Tensor, " n"]:
    """InfoNCE of each query against its positive and all candidates (SAM, arXiv 2012.02383, equation 1).

    Args:
        query_nd, positive_nd, candidates_md: similarities are their inner products; give unit-length rows.
        ignored_nm: True = this candidate lies too near the query's true position (or is unknown) to be a negative.
        temperature: divides the similarities.

    Returns:
        (n,) loss of each query: -log(e^{q·p/T} / (e^{q·p/T} + Σ_{m not ignored} e^{q·c_m/T})).
    """
    positive_n1 = (query_nd * positive_nd).sum(-1, keepdim=True) / temperature
    negative_nm = (query_nd @ candidates_md.T / temperature).masked_fill(ignored_nm, float("-inf"))
    return torch.cat([positive_n1, negative_nm], dim=1).logsumexp(dim=1) - positive_n1[:, 0]


def correspondence_contrast(
    query_bnd: Float[Tensor, "b n d"],
    positive_bnd: Float[Tensor, "b n d"],
    candidates_bmd: Float[Tensor, "b m d"],
    distance_bnm: Float[Tensor, "b n m"],
    valid_bn: Bool[Tensor, "b n"],
    *,
    temperature: float,
    ignore_mm: float,
    across: bool = False,
    other_mm: Callable[[int, int], Tensor | None] | None = None,
) -> Float[Tensor, ""]:
    """Mean contrast over the valid points of a batch of crop pairs.

    Args:
        query_bnd: features at points of the query crops.
        positive_bnd: features at the corresponding points of the key crops.
        candidates_bmd: features at other points of the key crops, the negatives.
        distance_bnm: mm from each corresponding point to each candidate, in the key scan.
        valid_bn: True = this correspondence is known.
        temperature: of the softmax.
        ignore_mm: candidates nearer than this to the true position are no negatives.
        across: also take the candidates of the batch's other pairs as negatives.
        other_mm: of two pairs i and j, mm (n, m) from the true places of i to the candidates of j, None where that is
            not known; candidates nearer than `ignore_mm` are no negatives, and of an unknown distance they all are.

    Returns:
        scalar; zero (with gradient) where nothing is valid. Its mean over ranks is that over all their points; `across`
        stays within a rank.
    """
    b, m = len(query_bnd), candidates_bmd.shape[1]
    losses = []
    for i in range(b):
        keep = valid_bn[i]
        ignored = distance_bnm[i][keep] < ignore_mm
        candidates = candidates_bmd[i]
        if across and b > 1:
            for j in (*range(i), *range(i + 1, b)):
                apart = other_mm(i, j) if other_mm is not None else None
                near = apart[keep] < ignore_mm if apart is not None else torch.zeros_like(ignored[:, :m])
                ignored = torch.cat([ignored, near], dim=1)
            others = torch.cat([candidates_bmd[:i], candidates_bmd[i + 1 :]]).reshape((b - 1) * m, -1)
            candidates = torch.cat([candidates, others])
        losses.append(point_contrast(query_bnd[i][keep], positive_bnd[i][keep], candidates, ignored, temperature))
    each = torch.cat(losses)
    # The mean over all ranks' points: each rank is weighted by its number of points.
    count = all_reduce(torch.tensor(float(len(each)), device=each.device), ReduceOp.AVG)
    return each.sum() / count if float(count) else query_bnd.sum() * 0


def distances_mm(batch: dict[str, Tensor], key: str) -> Float[Tensor, "b n m"]:
    """mm from each corresponding point of crop `key` (q or k) to each of its candidates."""
    axes = batch[f"axes_{key}"]
    points, candidates = (batch[f"{name}_{key}"] @ axes.transpose(1, 2) for name in ("points", "candidates"))
    return torch.cdist(points, candidates)


def other_distances_mm(batch: dict[str, Tensor], query: str, key: str, i: int, j: int) -> Tensor | None:
    """mm (n, m) from the corresponding points of pair i to the candidates of crop `key` of pair j.

    Known where the crop of j lies in the key scan or in the query scan of i; None of another scan: two scans of a batch
    need not be a row of the pairs table, so where i's anatomy lies in it is not known.
    """
    there = batch[f"case_{key}"][j]
    for side in (key, query):
        if there == batch[f"case_{side}"][i]:
            points = _world(batch[f"points_{side}"][i], batch[f"affine_{side}"][i])
            return torch.cdist(points, _world(batch[f"candidates_{key}"][j], batch[f"affine_{key}"][j]))
    return None


def _world(index_n3: Tensor, affine: Tensor) -> Tensor:
    """RAS mm of voxel indices."""
    return index_n3.float() @ affine[:3, :3].float().T + affine[:3, 3].float()


def crop_contrast(
    query_maps: list[Tensor],
    key_maps: list[Tensor],
    batch: dict[str, Tensor],
    *,
    query: str,
    key: str,
    temperature: float,
    ignore_mm: float,
    across: bool = False,
) -> Float[Tensor, ""]:
    """Contrast of the points of the crops `query` against the crops `key` of a batch (`q` or `k`).

    The features of several maps are concatenated: their similarity is the mean of the maps' similarities.

    Args:
        query_maps, key_maps: unit-length maps (b, d, …) of both crops, of any strides.
        batch: from the pair sampler in `data.sampling`.
        across: see `correspondence_contrast`; the distance is known between crops of one scan.
    """
    shape = tuple(batch[query].shape[2:])

    def joined(maps: list[Tensor], points: Tensor) -> Tensor:
        out: Tensor = torch.cat([sample_at(one, points, shape) for one in maps], dim=-1) / len(maps) ** 0.5
        return out

    return correspondence_contrast(
        joined(query_maps, batch[f"points_{query}"]),
        joined(key_maps, batch[f"points_{key}"]),
        joined(key_maps, batch[f"candidates_{key}"]),
        distances_mm(batch, key),
        batch["valid"],
        temperature=temperature,
        ignore_mm=ignore_mm,
        across=across,
        other_mm=lambda i, j: other_distances_mm(batch, query, key, i, j),
    )
