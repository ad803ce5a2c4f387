"""CASA, conditional anatomical semantic alignment: tokens of the masked view attend to the whole crop."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from alice3d.nn.ema import target_of, update_ema
from alice3d.nn.layers import attention


class CASA(nn.Module):
    """The alignment module of Alice (Jiang et al., ICCV 2023, the CASA figure), both branches.

    The query is the same for both: the online encoder's visible tokens V_u. In the online branch it attends to
    the decoder's features H_u at all positions, in the target branch to the target encoder's tokens Y_w of the unmasked
    view. So both complete each visible token with the crop's context, and their outputs S_u and T_w can be compared. φ,
    the key and value projections and ζ are trained; ψ, the target's key and value projections and ζ′ are their EMA.

    Args:
        width: of the encoder's tokens.
        decoder_width: of the decoder's features H.
        heads: attention heads.
    """

    def __init__(self, *, width: int, decoder_width: int, heads: int = 8) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        self.heads = heads
        self.query = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.to_width = nn.Linear(decoder_width, width)  # brings H_u to the encoder's width
        self.phi = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.key_value = nn.Linear(width, 2 * width)
        self.zeta = nn.Linear(width, width)
        self.psi = target_of(self.phi)
        self.target_key_value = target_of(self.key_value)
        self.target_zeta = target_of(self.zeta)

    def _attend(self, query_bvd: Tensor, key_value_bne: Tensor) -> Tensor:
        b, v, d = query_bvd.shape
        key, value = key_value_bne.chunk(2, dim=-1)
        q, k, w = (x.view(b, -1, self.heads, d // self.heads).transpose(1, 2) for x in (query_bvd, key, value))
        return attention(q, k, w).transpose(1, 2).reshape(b, v, d)

    def online(
        self, visible_bvd: Float[Tensor, "b v d"], decoded_bne: Float[Tensor, "b n e"]
    ) -> Float[Tensor, "b v d"]:
        """S_u = ζ(attention(query V_u; key and value from φ(H_u))); with gradients for all inputs, the query included.

        Args:
            visible_bvd: V_u, the online encoder's visible tokens.
            decoded_bne: H_u, the decoder's features at all positions.
        """
        context = self.key_value(self.phi(self.to_width(decoded_bne)))
        out: Tensor = self.zeta(self._attend(self.query(visible_bvd), context))
        return out

    def target(self, visible_bvd: Float[Tensor, "b v d"], whole_bnd: Float[Tensor, "b n d"]) -> Float[Tensor, "b v d"]:
        """T_w = ζ′(attention(query V_u; key and value from ψ(Y_w))); call it without gradient.

        Args:
            visible_bvd: V_u again: both branches have the same query.
            whole_bnd: Y_w, the target encoder's tokens of the unmasked view.
        """
        context = self.target_key_value(self.psi(whole_bnd))
        out: Tensor = self.target_zeta(self._attend(self.query(visible_bvd), context))
        return out

    def after_step(self, momentum: float) -> None:
        """EMA update of ψ, the target's key and value projections and ζ′."""
        for target, online in (
            (self.psi, self.phi),
            (self.target_key_value, self.key_value),
            (self.target_zeta, self.zeta),
        ):
            update_ema(target, online, momentum)
