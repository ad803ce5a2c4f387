"""Alice: self-supervised anatomy learning from unlabelled 3D scans.

>>> encoder, card = alice3d.load_encoder("RUN")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alice3d.version import __version__

__all__ = [
    "Matcher",
    "__version__",
    "align",
    "correspondence",
    "embed",
    "load_encoder",
    "load_matcher",
    "match",
    "propagate",
]

if TYPE_CHECKING:
    from alice3d.api import align, correspondence, embed, match, propagate
    from alice3d.matching.matcher import Matcher
    from alice3d.weights.files import load_encoder, load_matcher

_HOMES = {
    "load_encoder": "alice3d.weights.files",
    "load_matcher": "alice3d.weights.files",
    "Matcher": "alice3d.matching.matcher",
    "align": "alice3d.api",
    "correspondence": "alice3d.api",
    "embed": "alice3d.api",
    "match": "alice3d.api",
    "propagate": "alice3d.api",
}


def __getattr__(name: str) -> Any:
    """The public functions, imported on first use, so that `import alice3d` stays light."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'alice3d' has no attribute {name!r}")
