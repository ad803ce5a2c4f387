"""Alice: self-supervised anatomy learning from unlabelled 3D scans.

>>> encoder, card = alice3d.load_encoder("RUN")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder", "load_matcher"]

if TYPE_CHECKING:
    from alice3d.nn.weights import load_encoder, load_matcher


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are asked for, so that `import alice3d` stays light."""
    if name in ("load_encoder", "load_matcher"):
        from alice3d.nn import weights

        return getattr(weights, name)
    raise AttributeError(f"module 'alice3d' has no attribute {name!r}")
