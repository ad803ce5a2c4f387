"""Whether a self-supervised run has collapsed: a loss that looks healthy over features that say nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from alice3d import console, distributed

MIN_INFORMATION = 0.05
"""Nats that an answer over prototypes must tell of its token: entropy of the mean answer less mean entropy of the
answers. It is 0 when all tokens answer with one prototype (both are 0) and when all answers are uniform (both are
ln(prototypes)); runs that learned stayed above 0.7."""
MIN_DEVIATION = 0.05
"""Spread of the tokens as a share of their size. Untrained networks have 0.4 to 0.7, trained ones 0.8 to 0.9."""
MIN_RANK = 3.0
"""Effective rank of the tokens. Untrained and trained networks have 70 to 110; below 3 they lie in a plane."""
STEPS = 100
"""Steps in a row, or a twentieth of the run if that is more, that answers must be empty: heads need some to wake."""
LOOKS = 3
"""Looks in a row at which features must have collapsed."""


class CollapseGuard:
    """Called after each step with its numbers; returns why to stop, or "".

    Args:
        steps: of the run.
        action: `stop`; `warn` says it once on standard error; `ignore`.
        idle: heads whose loss is switched off: what they answer does not matter.
        advice: what to try, for `answers` and for `features`; methods know.
    """

    def __init__(
        self,
        steps: int,
        action: Literal["stop", "warn", "ignore"] = "stop",
        *,
        idle: frozenset[str] = frozenset(),
        advice: Mapping[str, str] | None = None,
    ) -> None:
        self.needed = {"answers": max(STEPS, steps // 20), "features": LOOKS}
        self.action, self.idle, self.advice = action, idle, dict(advice or {})
        self.seen: dict[str, int] = {}
        self.told: set[str] = set()

    def __call__(self, step: int, entry: Mapping[str, float]) -> str:
        """Count what is wrong in a row; conclude when it has lasted."""
        if self.action == "ignore":
            return ""
        for name, kind, wrong, said in _signs(entry):
            if name in self.idle:
                continue
            self.seen[name] = self.seen.get(name, 0) + 1 if wrong else 0
            if self.seen[name] < self.needed[kind] or name in self.told:
                continue
            lasted = f"{self.needed[kind]} {'steps' if kind == 'answers' else 'looks'} in a row"
            advice = f"{self.advice[kind]}; " if self.advice.get(kind) else ""
            message = f"the run has collapsed: {said}, {lasted}; {advice}--on-collapse warn goes on all the same"
            if self.action == "stop":
                return message
            self.told.add(name)
            if distributed.is_chief():
                console.warn(f"step {step}: {message}")
        return ""


def _signs(entry: Mapping[str, float]) -> list[tuple[str, str, bool, str]]:
    """What a step's numbers show: name, kind, whether it is a sign of collapse, and how to say it."""
    signs = []
    for key, mean_entropy in entry.items():
        head = key.removesuffix("_marginal_entropy")
        own_entropy = entry.get(f"{head}_target_entropy")
        if head != key and own_entropy is not None:
            empty = mean_entropy - own_entropy < MIN_INFORMATION
            how = (
                f"all {head} tokens get the same answer (entropy {own_entropy:.2f} of each, {mean_entropy:.2f} of all)"
            )
            signs.append((head, "answers", empty, how))
    if "feature_deviation" in entry:
        value = entry["feature_deviation"]
        signs.append(("deviation", "features", value < MIN_DEVIATION, f"all tokens are alike (deviation {value:.2g})"))
    if "feature_rank" in entry:
        value = entry["feature_rank"]
        signs.append(("rank", "features", value < MIN_RANK, f"tokens vary along one line or plane (rank {value:.1f})"))
    return signs
