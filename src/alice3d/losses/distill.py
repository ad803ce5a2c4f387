"""Self-distillation over prototypes, with measures against collapse."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributed import ReduceOp
from torch.nn import functional as F

from alice3d.distributed import all_reduce


def distillation_loss(
    student_nk: Float[Tensor, "n k"], teacher_nk: Float[Tensor, "n k"], *, student_temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of the student's softmax against the teacher's probabilities, mean over rows.

    Args:
        student_nk: logits.
        teacher_nk: probabilities, already sharpened and balanced; without gradient.
        student_temperature: divides the student's logits.
    """
    log_probability = F.log_softmax(student_nk / student_temperature, dim=-1)
    return -(teacher_nk.detach() * log_probability).sum(dim=-1).mean()


def masked_distillation_loss(
    student_mk: Float[Tensor, "m k"],
    teacher_mk: Float[Tensor, "m k"],
    hidden_bn: Bool[Tensor, "b n"],
    *,
    student_temperature: float,
) -> Float[Tensor, ""]:
    """Cross-entropy at hidden patches: mean over each crop's, then over all crops (iBOT, Zhou et al., ICLR 2022).

    Args:
        student_mk: logits at the m hidden patches of all crops, in the order of `hidden_bn`.
        teacher_mk: probabilities of the same patches of the whole crops; without gradient.
        hidden_bn: True = hidden. A crop without hidden patches adds 0 and counts, as in DINOv2's code.
        student_temperature: divides the student's logits.
    """
    log_probability = F.log_softmax(student_mk / student_temperature, dim=-1)
    each = -(teacher_mk.detach() * log_probability).sum(dim=-1)
    share = 1 / hidden_bn.sum(dim=1).clamp_min(1).float()
    weight = share[:, None].expand(hidden_bn.shape)[hidden_bn]
    return (each * weight).sum() / len(hidden_bn)


def warmed(first: float, last: float, *, share: float, step: int, total_steps: int) -> float:
    """A value that changes linearly from `first` to `last` over that share of the run, and then stays."""
    done = min(step / max(share * total_steps, 1), 1.0)
    return float(first + (last - first) * done)


class Centring(nn.Module):
    """Subtract a running mean of the teacher's logits before its softmax (DINO, Caron et al., ICCV 2021)."""

    centre: Tensor

    def __init__(self, prototypes: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(prototypes))

    @torch.no_grad()
    def forward(self, logits_nk: Float[Tensor, "n k"], temperature: float) -> Float[Tensor, "n k"]:
        """Probabilities with the current centre; then update the centre with this batch (of all ranks)."""
        probability = F.softmax((logits_nk - self.centre) / temperature, dim=-1)
        mean = all_reduce(logits_nk.mean(dim=0), ReduceOp.AVG)
        self.centre.lerp_(mean, 1 - self.momentum)
        return probability


@torch.no_grad()
def standardise(logits_nk: Float[Tensor, "n k"], spread: float) -> Float[Tensor, "n k"]:
    """Give each prototype's logits mean 0 and standard deviation `spread` over all ranks' rows.

    A newly initialised head maps all tokens to nearly one direction: their differences are a hundredth of their mean,
    the balanced target is then uniform, and a student of uniform targets stays uniform.
    """
    mean = all_reduce(logits_nk.mean(dim=0), ReduceOp.AVG)
    centred = logits_nk - mean
    variance = all_reduce(centred.square().mean(dim=0), ReduceOp.AVG)
    return centred * (spread / (variance + 1e-8).sqrt())


@torch.no_grad()
def sinkhorn(logits_nk: Float[Tensor, "n k"], temperature: float, iterations: int = 3) -> Float[Tensor, "n k"]:
    """Probabilities whose prototypes are used equally (Sinkhorn-Knopp; SwAV, Caron et al., NeurIPS 2020).

    Rows sum to one; columns sum to n/k up to the error left after `iterations`. Over all ranks' rows together.
    """
    scaled = logits_nk.float() / temperature
    highest = all_reduce(scaled.max(), ReduceOp.MAX)
    weight = (scaled - highest).exp()
    rows = all_reduce(torch.tensor(float(len(weight)), device=weight.device), ReduceOp.SUM)
    for _ in range(iterations):
        column = all_reduce(weight.sum(dim=0, keepdim=True), ReduceOp.SUM)
        weight = weight / column.clamp_min(1e-12) * (rows / weight.shape[1])
        weight = weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-12)
    return weight


@torch.no_grad()
def balanced(
    logits_nk: Float[Tensor, "n k"], temperature: float, *, spread: float, centring: Centring | None
) -> Float[Tensor, "n k"]:
    """Target probabilities: logits standardised where `spread` is above 0, then centred, or balanced by Sinkhorn-Knopp.

    Args:
        logits_nk: of the target head.
        temperature: that sharpens them.
        spread: see `standardise`; 0 leaves the logits as they are.
        centring: None balances by Sinkhorn-Knopp.
    """
    logits = standardise(logits_nk, spread) if spread else logits_nk
    probability: Tensor = sinkhorn(logits, temperature) if centring is None else centring(logits, temperature)
    return probability


def entropy(probability_nk: Float[Tensor, "n k"]) -> Float[Tensor, ""]:
    """Mean entropy of the rows, in nats."""
    return -(probability_nk * probability_nk.clamp_min(1e-12).log()).sum(dim=-1).mean()


def koleo(features_nd: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """KoLeo: mean -log distance to the nearest other row, at unit length (Sablayrolles et al., ICLR 2019)."""
    unit = F.normalize(features_nd.float(), dim=-1)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-1.0)
    nearest = unit[similarity.argmax(dim=1)]
    out: Tensor = -((unit - nearest).norm(dim=-1) + 1e-6).log().mean()
    return out
