"""All objectives of the package in rows: paper, sampler, backbones, cost of a step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from alice3d.methods.base import find_method, method_names
from alice3d.nn.backbones.registry import BACKBONES, build_backbone

COSTS = Path(__file__).with_name("costs.json")
"""Method to backbone to seconds a step over those of `mae`, measured by benchmarks/rivals/cost.py."""


def described_methods() -> list[dict[str, Any]]:
    """A row an objective: name, paper, sampler, backbones that can learn by it at its defaults, and its cost.

    `cost` is seconds a step over those of `mae` at equal crops, on the residual U-Net; None where it was not measured.
    """
    costs: dict[str, dict[str, float]] = json.loads(COSTS.read_text(encoding="utf-8"))
    networks = {name: build_backbone(name, 1) for name in BACKBONES}
    rows = []
    for name in method_names():
        kind = find_method(name)
        rows.append(
            {
                "name": name,
                "paper": kind.paper,
                "sampler": kind.Sampler.__name__,
                "backbones": [one for one, network in networks.items() if not kind.unfit(network, kind.Config())],
                "cost": costs.get(name, {}).get("resunet"),
            }
        )
    return rows
