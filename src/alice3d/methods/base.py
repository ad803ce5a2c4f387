"""What the loop asks of a method, and how a self-supervised method is found by name."""

from __future__ import annotations

import difflib
import importlib
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from pydantic import ValidationError
from torch import Tensor, nn

from alice3d.config import Config
from alice3d.errors import UserError
from alice3d.nn.backbones.base import Backbone


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


class PretrainMethod(nn.Module):
    """A self-supervised method: it is built around a backbone and gives an encoder back.

    Attributes:
        Config: its settings; every field is an option of `alice pretrain --options.FIELD`.
        needs_masks: whether samples must carry masks and target views.
    """

    Config: ClassVar[type[Config]] = Config
    needs_masks: ClassVar[bool] = True
    backbone: Backbone

    def __init__(self, backbone: Backbone, config: Any, *, crop: int, total_steps: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.crop = crop
        self.total_steps = total_steps

    @property
    def needs_hidden(self) -> bool:
        """Whether the loss is none where a mask hides nothing."""
        return self.needs_masks

    @property
    def fewest_pairs(self) -> int:
        """Pairs of crops that `forward` must see at a time, in each process."""
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


METHODS = ("alice", "mae", "sam")
C = TypeVar("C", bound=Config)


def find_method(name: str) -> type[PretrainMethod]:
    """The method class of a name in `methods/`, or of `package.module` in the user's own code.

    The module's class is the one that derives from `PretrainMethod` and is defined in that module.

    Raises:
        UserError: no such module, or none or several such classes in it.
    """
    path = f"alice3d.methods.{name}" if name in METHODS else name
    if name not in METHODS and "." not in name:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"known are {', '.join(METHODS)}, or package.module of your own"
        )
        raise UserError(f"method: {name!r} is unknown; {hint}")
    try:
        module = importlib.import_module(path)
    except Exception as error:  # whatever the user's own module does when it is imported
        said = " ".join(str(error).split())
        raise UserError(f"method: {name!r} cannot be imported ({type(error).__name__}: {said})") from error
    found = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, PretrainMethod) and item.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UserError(
            f"method: {name!r} must define one class that derives from PretrainMethod, it defines {len(found)}"
        )
    return found[0]


def method_config(method: type[PretrainMethod], options: dict[str, Any]) -> Any:
    """The method's settings from `--options`.

    Raises:
        UserError: unknown key or value out of range, with the nearest key.
    """
    known = list(method.Config.model_fields)
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise UserError(f"options: {method.__name__} has no option {key!r}; {hint}")
    try:
        return method.Config(**options)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise UserError(f"options: {said}") from None
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(f"options.{field}: {said}, got {first['input']!r}") from None
