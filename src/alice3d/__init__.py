"""Alice: self-supervised anatomy learning from unlabelled 3D scans.

>>> encoder, card = alice3d.load_encoder("RUN")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alice3d.version import __version__

if TYPE_CHECKING:
    from alice3d.api.listing import list_backbones, list_methods, list_shipped, list_tasks
    from alice3d.api.matching import align, correspondence, embed, match, propagate
    from alice3d.api.models import Model, load_model, predict
    from alice3d.api.training import evaluate, finetune, pair, prepare, pretrain, train_matcher
    from alice3d.matching.matcher import Matcher
    from alice3d.weights.files import load_encoder, load_matcher

__all__ = [
    "Matcher",
    "Model",
    "__version__",
    "align",
    "correspondence",
    "embed",
    "evaluate",
    "finetune",
    "list_backbones",
    "list_methods",
    "list_shipped",
    "list_tasks",
    "load_encoder",
    "load_matcher",
    "load_model",
    "match",
    "pair",
    "predict",
    "prepare",
    "pretrain",
    "propagate",
    "train_matcher",
]


def __getattr__(name: str) -> Any:
    """The public functions, imported when they are asked for, so that `import alice3d` stays light."""
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("alice3d.api"), name)
    raise AttributeError(f"module 'alice3d' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
