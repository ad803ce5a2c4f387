"""What can be named in a call: objectives, networks, tasks, shipped weights."""

from __future__ import annotations

from alice3d.methods.base import method_names
from alice3d.nn.backbones.registry import BACKBONES
from alice3d.tasks.base import task_names
from alice3d.weights.files import shipped_names


def list_methods() -> list[str]:
    """Objectives that come with the package, for `pretrain(..., method=NAME)`; `sam` is what `train_matcher` trains.

    >>> list_methods()
    ['alice', 'mae', 'sam']

    One of your own is named as package.module.
    """
    return sorted(method_names())


def list_backbones() -> list[str]:
    """Networks, for `backbone=NAME`.

    >>> list_backbones()
    ['resunet', 'swin', 'vit']
    """
    return sorted(BACKBONES)


def list_tasks() -> list[str]:
    """Labelled tasks that come with the package, for `finetune(..., task=NAME)`.

    >>> list_tasks()
    ['classification', 'segmentation']

    One of your own is named as package.module.
    """
    return sorted(task_names())


def list_shipped() -> dict[str, str]:
    """Weights that come with the package: the name that stands for a folder of weights, to `encoder` or `matcher`.

    >>> list_shipped()
    {'headneck-ct': 'matcher', 'headneck-ct-alice': 'encoder'}
    """
    return {name: kind for kind in ("matcher", "encoder") for name in shipped_names(kind)}
