"""Lists of the objectives, backbones, tasks and weights that calls accept by name."""

from __future__ import annotations

from alice3d.methods.base import method_names
from alice3d.nn.backbones.registry import BACKBONES
from alice3d.tasks.base import task_names
from alice3d.weights.files import shipped_names


def list_methods() -> list[str]:
    """Objectives of the package, for `pretrain(..., method=NAME)`; `sam` is the one of `train_matcher`.

    >>> list_methods()[:5]
    ['alice', 'anatomask', 'cva', 'dino', 'kats']

    Your own is named as package.module.
    """
    return sorted(method_names())


def list_backbones() -> list[str]:
    """Backbones, for `backbone=NAME`.

    >>> list_backbones()
    ['resunet', 'swin', 'vit']
    """
    return sorted(BACKBONES)


def list_tasks() -> list[str]:
    """Labelled tasks of the package, for `finetune(..., task=NAME)`.

    >>> list_tasks()
    ['classification', 'segmentation']

    Your own is named as package.module.
    """
    return sorted(task_names())


def list_shipped() -> dict[str, str]:
    """Weights shipped with the package: name, accepted wherever weights are expected, to `encoder` or `matcher`.

    >>> list_shipped()
    {'headneck-ct': 'matcher', 'headneck-ct-alice': 'encoder'}
    """
    return {name: kind for kind in ("matcher", "encoder") for name in shipped_names(kind)}
