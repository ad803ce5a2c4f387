"""Losses of segmentation from labels that may lack structures: soft Dice and marginal cross-entropy."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

# Shape suffixes: b batch, c classes (0 is background), xyz voxels.
IGNORED = -1
"""Label of voxels without a reference; they take no part in any loss."""


def marginal_logits(logits_bcxyz: Float[Tensor, "b c x y z"], contoured_bc: Bool[Tensor, "b c"]) -> Tensor:
    """Merge the classes that a case's reference does not contour into its background.

    A background voxel of the reference may lie in an organ that was not contoured: its probability is that of
    background or any such organ (marginal loss, Shi et al., Medical Image Analysis 2021).

    Args:
        logits_bcxyz: logits.
        contoured_bc: True = this class was contoured in this case. Class 0 always counts as contoured.

    Returns:
        (b, c, x, y, z): background's logit is the log-sum-exp over itself and the classes not contoured, whose own
        logits are -inf.
    """
    absent_bc = ~contoured_bc
    absent_bc = torch.cat([torch.zeros_like(absent_bc[:, :1]), absent_bc[:, 1:]], dim=1)
    absent = absent_bc[:, :, None, None, None]
    merged = torch.cat([torch.ones_like(absent[:, :1]), absent[:, 1:]], dim=1)
    background = logits_bcxyz.masked_fill(~merged, float("-inf")).logsumexp(dim=1, keepdim=True)
    return torch.cat([background, logits_bcxyz[:, 1:].masked_fill(absent[:, 1:], float("-inf"))], dim=1)


def marginal_cross_entropy(
    logits_bcxyz: Float[Tensor, "b c x y z"],
    labels_bxyz: Int[Tensor, "b x y z"],
    contoured_bc: Bool[Tensor, "b c"],
    *,
    structure_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """Cross-entropy over all voxels, with the classes that are not contoured counted as background.

    Args:
        logits_bcxyz: logits.
        labels_bxyz: class of each voxel, or `IGNORED`; otherwise only 0 and contoured classes occur.
        contoured_bc: True = this class was contoured in this case.
        structure_weight: weight of a structure's voxel; background's is 1. The mean is over weights.

    Returns:
        scalar; 0 with gradient where every voxel is ignored.
    """
    if not (labels_bxyz != IGNORED).any():
        return logits_bcxyz.sum() * 0
    log_p = F.log_softmax(marginal_logits(logits_bcxyz.float(), contoured_bc), dim=1)
    weight = torch.full((logits_bcxyz.shape[1],), structure_weight, device=log_p.device)
    weight[0] = 1.0
    return F.nll_loss(log_p, labels_bxyz.long(), weight, ignore_index=IGNORED)


def soft_dice_loss(
    logits_bcxyz: Float[Tensor, "b c x y z"],
    labels_bxyz: Int[Tensor, "b x y z"],
    contoured_bc: Bool[Tensor, "b c"],
    *,
    over_batch: bool = False,
    smooth: float = 1.0,
) -> Float[Tensor, ""]:
    """1 - soft Dice (V-Net, Milletari et al., 3DV 2016; plain sums in the denominator), mean over structures.

    Background is excluded. A class counts only in crops of cases in which it was contoured; in a crop without its
    voxels any prediction of it is penalised.

    Args:
        logits_bcxyz: logits.
        labels_bxyz: class of each voxel, or `IGNORED`.
        contoured_bc: True = this class was contoured in this case.
        over_batch: sum over the batch's crops before dividing (more stable when crops hold few voxels of a structure);
            otherwise a score for each crop.
        smooth: voxels added to numerator and denominator. One voxel keeps the gradient of a crop without the
            structure small.

    Returns:
        scalar; 0 with gradient when nothing is contoured.
    """
    classes = logits_bcxyz.shape[1]
    p_bcn = logits_bcxyz.float().softmax(dim=1).flatten(2)[:, 1:]
    p_bcn = p_bcn * (labels_bxyz != IGNORED).flatten(1)[:, None]
    g_bcn = F.one_hot(labels_bxyz.long().clamp(min=0), classes).movedim(-1, 1).flatten(2)[:, 1:].to(p_bcn.dtype)
    counted_bc = contoured_bc[:, 1:].to(p_bcn.dtype)
    overlap = (p_bcn * g_bcn).sum(dim=2) * counted_bc
    total = (p_bcn.sum(dim=2) + g_bcn.sum(dim=2)) * counted_bc
    if over_batch:
        overlap, total = overlap.sum(dim=0, keepdim=True), total.sum(dim=0, keepdim=True)
        counted_bc = counted_bc.amax(dim=0, keepdim=True)
    loss = (1 - (2 * overlap + smooth) / (total + smooth)) * counted_bc
    return loss.sum() / counted_bc.sum().clamp(min=1)


def segmentation_loss(
    logits_bcxyz: Float[Tensor, "b c x y z"],
    labels_bxyz: Int[Tensor, "b x y z"],
    contoured_bc: Bool[Tensor, "b c"],
    *,
    structure_weight: float = 4.0,
    over_batch: bool = True,
) -> dict[str, Tensor]:
    """Soft Dice plus marginal cross-entropy.

    Args:
        logits_bcxyz: logits.
        labels_bxyz: class of each voxel, or `IGNORED`.
        contoured_bc: True = this class was contoured in this case.
        structure_weight: see `marginal_cross_entropy`; 4 because structures fill a few percent of even a crop that is
            centred on one.
        over_batch: see `soft_dice_loss`.

    Returns:
        `loss` and its parts `dice_loss` and `cross_entropy`.
    """
    dice = soft_dice_loss(logits_bcxyz, labels_bxyz, contoured_bc, over_batch=over_batch)
    entropy = marginal_cross_entropy(logits_bcxyz, labels_bxyz, contoured_bc, structure_weight=structure_weight)
    return {"loss": dice + entropy, "dice_loss": dice.detach(), "cross_entropy": entropy.detach()}
