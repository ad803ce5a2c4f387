"""What the loop asks of a method, and how a self-supervised method is found by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn

from alice3d.config import Config
from alice3d.data.sampling.base import Sampler
from alice3d.data.sampling.matched_pair import MatchedPair
from alice3d.errors import UserError
from alice3d.methods.feature_statistics import watch_features
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.backbones.registry import build_backbone
from alice3d.plugins import checked_options, find_class, listed


@runtime_checkable
class Method(Protocol):
    """One objective. It never sees an optimiser, a device or the loop."""

    def forward(self, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """The key `loss` is minimised; further keys (its parts and monitors, detached) are logged."""
        ...

    def param_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser: `params`, and `lr_scale`, `starts_at` or `weight_decay` where they differ."""
        ...

    def after_step(self, step: int) -> None:
        """Called after each optimiser step: moving averages and the like."""
        ...


def check_returned(method: Method, returned: Any) -> dict[str, Tensor]:
    """What `forward` returned, if the loop can use it.

    Raises:
        UserError: no dictionary, no `loss`, a value that is no scalar tensor, or a loss without a gradient.
    """
    whose = f"{type(method).__name__}.forward"
    if not isinstance(returned, Mapping):
        raise UserError(f"{whose}: a dictionary with the key 'loss' must be returned, got a {type(returned).__name__}")
    if "loss" not in returned:
        raise UserError(f"{whose}: the key 'loss' is missing; returned are {', '.join(map(str, returned)) or 'none'}")
    for key, value in returned.items():
        if not isinstance(value, Tensor) or value.ndim:
            got = f"one of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise UserError(f"{whose}: {key!r} must be a scalar tensor (shape ()), got {got}")
    if not returned["loss"].requires_grad:
        raise UserError(f"{whose}: 'loss' has no gradient: it is detached, or no weight that learns is used")
    return dict(returned)


class PretrainMethod(nn.Module):
    """A self-supervised method: it is built around a backbone and gives an encoder back.

    Attributes:
        Config: its settings; every field is an option of `alice pretrain --options.FIELD`.
        Sampler: the kind of samples that it learns from.
        defaults: settings of `alice pretrain` that suit it, such as a learning rate; what the user gives wins.
        paper: what it implements, for lists and tables.
        advice: what to try when a run collapses: `answers` of heads with prototypes are empty, or `features` are; for
            `pairs`, why a forward pass needs several and what else to try.
    """

    Config: ClassVar[type[Config]] = Config
    Sampler: ClassVar[type[Sampler]] = MatchedPair
    defaults: ClassVar[Mapping[str, Any]] = {}
    paper: ClassVar[str] = ""
    advice: ClassVar[Mapping[str, str]] = {
        "answers": "try a larger --batch",
        "features": "try a lower --learning-rate or a longer --warmup",
    }
    backbone: Backbone

    def __init__(self, backbone: Backbone, config: Any, *, crop: int, total_steps: int) -> None:
        super().__init__()
        if reason := self.unfit(backbone, config):
            raise ValueError(reason)
        self.backbone = backbone
        self.config = config
        self.crop = crop
        self.total_steps = total_steps

    @classmethod
    def unfit(cls, backbone: Backbone, config: Any) -> str:
        """Why a backbone cannot learn by this objective with these options; "" where it can."""
        return ""

    def wants(self) -> Any:
        """What it wants of its sampler with these options: an instance of `Sampler.Wants`."""
        return self.Sampler.Wants()

    @property
    def needs_hidden(self) -> bool:
        """Whether the loss is none where a mask hides nothing."""
        return bool(getattr(self.wants(), "masks", False))

    @property
    def idle_heads(self) -> frozenset[str]:
        """Heads whose loss is switched off, by `HEAD_weight` 0 among the settings: what they answer does not matter."""
        values: dict[str, Any] = self.config.model_dump()
        return frozenset(
            name.removesuffix("_weight") for name, value in values.items() if name.endswith("_weight") and not value
        )

    def monitors(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Numbers to watch, of the features of a few samples that training leaves out; nothing is trained by them."""
        return watch_features(self.backbone, self.Sampler, batch)

    @property
    def fewest_pairs(self) -> int:
        """Pairs of crops that `forward` must see at a time, in each process."""
        return 1

    @property
    def fewest_pairs_together(self) -> int:
        """Pairs of crops that one forward pass of all processes together must hold; `advice` says why, by `pairs`."""
        return 1

    def param_groups(self) -> list[dict[str, Any]]:
        """All that learns, at one rate."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def after_step(self, step: int) -> None:
        """Nothing by default."""

    def reset_target(self) -> None:
        """Make a target branch equal to the online one, after weights were loaded; nothing by default."""

    def twins(self) -> list[tuple[nn.Module, nn.Module]]:
        """Each moving average and what it follows, to watch; by default every child `target_X` beside a child `X`."""
        children = dict(self.named_children())
        return [(one, children[name[7:]]) for name, one in children.items() if name[:7] == "target_"]

    def encoder(self) -> Backbone:
        """What goes downstream."""
        return self.backbone


FOLDER = Path(__file__).parent


def method_names() -> list[str]:
    """Names of the methods that come with the package."""
    return listed(FOLDER)


def find_method(name: str) -> type[PretrainMethod]:
    """The method class of a name in `methods/`, or of `package.module` in the user's own code.

    The module's class is the one that derives from `PretrainMethod` and is defined in that module.

    Raises:
        UserError: no such module, or none or several such classes in it.
    """
    return find_class(name, PretrainMethod, {one: f"alice3d.methods.{one}" for one in method_names()}, "method")


def method_config(method: type[PretrainMethod], options: dict[str, Any]) -> Any:
    """The method's settings from `--options`.

    Raises:
        UserError: unknown key or value out of range, with the nearest key.
    """
    return checked_options(method, options, "options")


def fitting_methods(backbone: str, options: Mapping[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The package's objectives that a backbone can learn by at their default options, and why it cannot by the others.

    Raises:
        UserError: unknown backbone or option.
    """
    network = build_backbone(backbone, 1, dict(options))
    reasons = {name: find_method(name).unfit(network, find_method(name).Config()) for name in method_names()}
    return [name for name, why in reasons.items() if not why], {name: why for name, why in reasons.items() if why}
