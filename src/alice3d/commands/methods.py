"""The objectives that `pretrain` knows: what each implements, learns from, and costs."""

from __future__ import annotations

from typing import Any

from alice3d import console
from alice3d.config import CommandConfig


class MethodsConfig(CommandConfig):
    """`alice methods`."""


def run(config: MethodsConfig) -> dict[str, Any]:
    """Print a line an objective; returns them under `methods`."""
    from alice3d.methods.listing import described_methods

    rows = described_methods()
    wide = max(len(row["name"]) for row in rows)
    for row in rows:
        cost = f"{row['cost']:.1f}x" if row["cost"] is not None else "  - "
        console.say(f"{row['name']:{wide}}  {cost}  {', '.join(row['backbones'])}; {row['sampler']}; {row['paper']}")
    console.say("Cost: seconds a step against mae on the residual U-Net. Next: alice pretrain STORE OUT --method NAME")
    return {"methods": rows}
