"""Compare pre-trainings under equal conditions: same probes, same labelled subsets; other differences are reported."""

from __future__ import annotations

from typing import Any

from alice3d.comparison.settings import CompareConfig

__all__ = ["CompareConfig", "run"]


def run(config: CompareConfig) -> dict[str, Any]:
    """Run every cell that is not done yet, cheap measures first; then table, tests and plot."""
    from alice3d.comparison.run import compare

    return compare(config)
