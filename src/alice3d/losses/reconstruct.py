"""Masked reconstruction: reconstruct the patches that the encoder did not see."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def patchify(volume: Float[Tensor, "b c x y z"], patch: int) -> Float[Tensor, "b n p"]:
    """Split crops into patches in x-major order; a row holds a patch's voxels, channels last."""
    b, c, x, y, z = volume.shape
    cut = volume.reshape(b, c, x // patch, patch, y // patch, patch, z // patch, patch)
    return cut.permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(b, (x * y * z) // patch**3, patch**3 * c)


def normalise_patches(patches: Float[Tensor, "b n p"]) -> Float[Tensor, "b n p"]:
    """Zero mean and unit standard deviation within each patch (MAE, He et al., CVPR 2022, section 3).

    The variance has a floor of 1e-2: a patch of air or of uniform tissue holds only noise, and scaling it to unit
    standard deviation would make noise the largest part of the loss.
    """
    return F.layer_norm(patches, patches.shape[-1:], eps=1e-2)  # the same in one pass; a CPU's `var` is slow


def patch_errors(
    rebuilt: Float[Tensor, "b n p"],
    volume: Float[Tensor, "b c x y z"],
    *,
    patch: int,
    normalised: bool = True,
    power: Literal[1, 2] = 2,
) -> Float[Tensor, "b n"]:
    """Mean squared (`power` 2) or absolute (1) error of each patch; arguments as of `reconstruction_loss`."""
    target = patchify(volume.float(), patch)
    if normalised:
        target = normalise_patches(target)
    apart = rebuilt.float() - target
    return (apart.square() if power == 2 else apart.abs()).mean(dim=-1)


def reconstruction_loss(
    rebuilt: Float[Tensor, "b n p"],
    volume: Float[Tensor, "b c x y z"],
    visible: Bool[Tensor, "b n"],
    *,
    patch: int,
    normalised: bool = True,
    hidden_only: bool = True,
    power: Literal[1, 2] = 2,
) -> Float[Tensor, ""]:
    """Mean error between reconstructed and true patches.

    Args:
        rebuilt: the decoder's voxels of every patch.
        volume: the crops without augmentation; noise in the target would only add a constant to the loss.
        visible: True = the encoder saw this patch.
        patch: side in voxels.
        normalised: compare with per-patch normalised voxels; False = raw values, as the published code does.
        hidden_only: only masked patches; False = all, as the published code does.
        power: 2 = squared, 1 = absolute errors.
    """
    error = patch_errors(rebuilt, volume, patch=patch, normalised=normalised, power=power)
    return error[~visible].mean() if hidden_only else error.mean()


def rebuilt_volume(
    rebuilt: Float[Tensor, "b n p"], volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"], *, patch: int
) -> Tensor:
    """The crop with its masked patches replaced by the reconstructed ones, in the crop's intensities, for display.

    Assumes normalised targets: each patch gets its true mean and standard deviation.
    """
    b, c, x, y, z = volume.shape
    target = patchify(volume, patch)
    mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True, unbiased=False)
    patches = torch.where(visible[..., None], target, rebuilt.float() * (variance + 1e-2).sqrt() + mean)
    cut = patches.reshape(b, x // patch, y // patch, z // patch, patch, patch, patch, c)
    return cut.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(b, c, x, y, z)
