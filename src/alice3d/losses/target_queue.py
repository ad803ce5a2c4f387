"""Queue of past teacher tokens, so that targets of few pairs are balanced over more than one forward pass holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alice3d.distributed import all_gather, rank

FEWEST_PAIRS = 4
"""Pairs of crops that statistics over a batch need. Standardised or balanced over one pair, the targets of its two
crops become opposite (benchmarks/results/alice/few_pairs.md)."""


class TargetQueue(nn.Module):
    """The teacher's tokens of the last pairs of all processes (queue of SwAV, Caron et al., NeurIPS 2020).

    Tokens are kept rather than logits, so that the present head answers for all of them.

    Attributes:
        pairs: how many are kept.
        tokens: (pairs so far, rows of a pair, width) float32, oldest first, the same in all processes; None until the
            first is put in, and then part of the state. A state without it (of an earlier version, or of a run with
            enough pairs) leaves the queue empty.
    """

    tokens: Tensor | None

    def __init__(self, pairs: int) -> None:
        super().__init__()
        self.pairs = pairs
        self.register_buffer("tokens", None)

    @torch.no_grad()
    def put(self, tokens_nd: Float[Tensor, "n d"], pairs: int) -> tuple[Tensor, slice]:
        """Add this pass, and give what its targets are balanced over.

        Args:
            tokens_nd: teacher tokens of this process, the first crops of all pairs before the second ones.
            pairs: of this process; all processes have as many.

        Returns:
            (pairs, rows of a pair, width) the queue as it was, then this pass of all processes; where this process's
            pairs are among them.
        """
        now = all_gather(by_pair(tokens_nd.float(), pairs))
        past = self.tokens.to(now) if self.tokens is not None else now[:0]
        everything = torch.cat([past, now])
        self.tokens = everything[-self.pairs :].clone()
        first = len(past) + rank() * pairs
        return everything, slice(first, first + pairs)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        kept = state_dict.get(f"{prefix}tokens")
        self.tokens = kept.clone() if kept is not None else None


def by_pair(rows_nd: Float[Tensor, "n d"], pairs: int) -> Float[Tensor, "p m d"]:
    """Rows of the first crops of all pairs, then of the second ones, as one block for each pair."""
    return rows_nd.reshape(2, pairs, -1, rows_nd.shape[-1]).transpose(0, 1).flatten(1, 2)


def by_crop(blocks_pmd: Float[Tensor, "p m d"]) -> Float[Tensor, "n d"]:
    """The inverse of `by_pair`."""
    pairs, rows, width = blocks_pmd.shape
    return blocks_pmd.reshape(pairs, 2, rows // 2, width).transpose(0, 1).reshape(-1, width)
