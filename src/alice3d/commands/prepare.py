"""Fill a store: read scans of any format, check them, bring them to one spacing and orientation."""

from __future__ import annotations

from typing import Any

from alice3d.data.settings import PrepareConfig

__all__ = ["PrepareConfig", "run"]


def run(config: PrepareConfig) -> dict[str, Any]:
    """Fill the store; returns counts of accepted and refused scans and the reasons."""
    from alice3d.data.prepare.configured import prepare_by

    return prepare_by(config)
