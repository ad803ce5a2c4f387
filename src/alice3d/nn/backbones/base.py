"""The one face of every backbone: what a method, a task or an export may ask of an encoder."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Backbone(nn.Module):
    """What a method, a task or an export may ask of an encoder.

    Attributes:
        name: by which it is asked for.
        in_channels: channels of the volume.
        width: width of a token.
        stride: voxels that a token spans along each axis; crop sides are multiples of it.
        channels: channels of `pyramid`'s maps, finest first.
        strides: their strides in voxels. Feature f of a map of stride s is centred on voxel (f + 0.5) s - 0.5.
        entry_width: channels right after the volume has entered: the width of a mask token.
        position_free: without a position code: what it computes does not depend on where a window starts or how large
            it is.
        takes_masked_pyramid: `pyramid` takes a mask.
        checkpoint: keep only what enters a block and compute the rest again in the backward pass: a third more
            computation for a fraction of the memory, with the same gradients. Backbones whose blocks support it take
            it as an option.
    """

    in_channels: int
    width: int
    stride: int
    channels: list[int]
    strides: list[int]
    entry_width: int
    name: ClassVar[str] = ""
    position_free: ClassVar[bool] = False
    takes_masked_pyramid: ClassVar[bool] = False
    checkpoint: bool = False

    def through(self, block: nn.Module, x: Tensor) -> Tensor:
        """`block(x)`, recomputed in the backward pass where `checkpoint` asks for it."""
        if self.checkpoint and torch.is_grad_enabled():
            # The blocks draw nothing at random, so no random state need be kept.
            out: Any = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
        else:
            out = block(x)
        return out  # type: ignore[no-any-return]

    def tokens(
        self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b v d"]]:
        """Class token and patch tokens.

        Args:
            volume: crops; sides are multiples of `stride`.
            visible: True = the encoder sees this patch; n patches in x-major order, equally many True in each row.
                None shows everything.

        Returns:
            class tokens (b, width) and the visible patches' tokens (b, v, width), in their order.
        """
        raise TypeError(f"{type(self).__name__} does not define tokens()")

    def masked_tokens(
        self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"], mask_token: Float[Tensor, " e"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b n d"]]:
        """Class token and the tokens of all patches, a learnt value in place of hidden ones (SimMIM, Xie et al., CVPR
        2022).

        Args:
            volume: crops; sides are multiples of `stride`.
            visible: True = the encoder sees this patch; n patches in x-major order.
            mask_token: what stands for hidden patches after the entry; it is the objective's, so that an exported
                encoder does not hold it.

        Returns:
            class tokens (b, width) and tokens (b, n, width) of visible and hidden patches.
        """
        raise TypeError(f"{type(self).__name__} does not define masked_tokens()")

    def pyramid(self, volume: Float[Tensor, "b c x y z"], visible: Bool[Tensor, "b n"] | None = None) -> list[Tensor]:
        """Feature maps (b, channels[i], x / strides[i], …), finest first.

        Args:
            volume: crops; sides are multiples of `stride`.
            visible: True = the encoder sees this patch; None shows everything. Where `takes_masked_pyramid`
                only: hidden places are then zero in every map (SparK, Tian et al., ICLR 2023).

        Raises:
            ValueError: a mask, and the backbone cannot leave places out of its maps.
        """
        raise TypeError(f"{type(self).__name__} does not define pyramid()")

    def whole(self, volume: Float[Tensor, "b c x y z"]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """`tokens` and `pyramid` of the unmasked volume, in one pass where the backbone can."""
        return (*self.tokens(volume), self.pyramid(volume))

    def token_grid(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Tokens along x, y, z of a volume of `shape`."""
        if any(n % self.stride for n in shape):
            raise ValueError(f"volume sides {tuple(shape)} must be multiples of {self.stride}")
        x, y, z = (n // self.stride for n in shape)
        return x, y, z
