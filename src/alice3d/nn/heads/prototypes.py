"""Projection heads with prototypes for self-distillation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


class PrototypeHead(nn.Module):
    """Normalisation, MLP, then cosine with `prototypes` unit-length vectors (DINO, Caron et al., ICCV 2021).

    Args:
        width: of the input tokens.
        hidden: width of the two hidden layers.
        bottleneck: width in which vectors are scaled to unit length.
        prototypes: number of outputs.
    """

    def __init__(self, width: int, *, hidden: int = 512, bottleneck: int = 128, prototypes: int = 512) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)  # a bias is shared by all tokens, and only their directions matter
        self.prototypes = parametrizations.weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
        # DINO keeps the norms of the prototypes at one: only their directions are trained.
        magnitude = self.prototypes.parametrizations.weight.original0
        magnitude.data.fill_(1.0)
        magnitude.requires_grad_(False)

    def forward(self, tokens: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        """Tokens (…, width) to logits (…, prototypes), each the cosine with a prototype; float32.

        Under autocast too: bfloat16 rounds a cosine of 0.9 to 0.004, which is as large as the differences between
        tokens of a newly initialised head.
        """
        hidden = self.mlp(tokens)
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(F.normalize(hidden.float(), dim=-1), self.prototypes.weight.float())
