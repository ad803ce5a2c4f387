"""Filling a store: options, one case, all cases, the summary."""

from alice3d.data.prepare.options import PrepareOptions
from alice3d.data.prepare.prepare import prepare

__all__ = ["PrepareOptions", "prepare"]
