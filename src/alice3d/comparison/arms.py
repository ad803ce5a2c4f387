"""The arms of a comparison: each a named way to obtain an encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from alice3d import console
from alice3d.comparison.settings import CompareConfig
from alice3d.config import nearest, recipe, recipes
from alice3d.errors import UserError
from alice3d.methods.base import fitting_methods, method_names
from alice3d.pretraining.settings import PretrainConfig

FIXED = ("store", "out", "seed", "pairs", "init", "threads", "device", "overwrite")
"""Settings of `alice pretrain` that the comparison sets."""
OF_SCRATCH = ("backbone", "backbone_options", "windows", "crop")
"""Settings of `alice pretrain` that define random weights and how scans are read for them."""
UNTRAINED = ("scratch", "init")
"""Methods that train nothing."""


@dataclass(frozen=True)
class Arm:
    """One way to obtain an encoder.

    Attributes:
        name: of the arm and of its folder.
        pretrain: settings of its training; None where nothing is trained.
        encoder: one that exists; None for random weights, or where one is trained.
        scratch: for random weights, those of `OF_SCRATCH` that are given; the rest follows from the other arms.
    """

    name: str
    pretrain: dict[str, Any] | None
    encoder: str | None
    scratch: dict[str, Any] = field(default_factory=dict)

    @property
    def random(self) -> bool:
        """Whether it has random weights."""
        return self.pretrain is None and self.encoder is None


def refuse_ambiguous(name: str) -> None:
    """Refuse a name of `--methods` that is a method's, and a recipe's for another; one for the same hides nothing.

    Raises:
        UserError: it is; both meanings are named.
    """
    file = recipe(name) if name in (*method_names(), *UNTRAINED) and name in recipes() else None
    if file is None:
        return
    default = PretrainConfig.model_fields["method"].default
    other = yaml.safe_load(file.read_text(encoding="utf-8")).get("method", default)
    if other != name:
        raise UserError(
            f"--methods: {name!r} is a method, and a recipe for method {other!r}; say which under `arms` in a YAML: "
            f"`method: {name}` or `recipe: {name}`"
        )


def named_methods(config: CompareConfig) -> list[str]:
    """The names of `--methods`; `all` stands for every objective that the comparison's backbone can learn by."""
    if "all" not in config.methods:
        return config.methods
    backbone = str(config.pretrain.get("backbone", PretrainConfig.model_fields["backbone"].default))
    fitting, refused = fitting_methods(backbone, config.pretrain.get("backbone_options") or {})
    for name, why in refused.items():
        console.say(f"{name} is left out with backbone {backbone}: {why}")
    others = [name for name in config.methods if name != "all"]
    return [*others, *(name for name in fitting if name not in {*others, *config.arms})]


def make_arm(name: str, described: dict[str, Any], config: CompareConfig) -> Arm:
    """An arm from its YAML entry.

    Raises:
        UserError: the name is not valid for a folder, or the entry is wrong.
    """
    if not name or not all(letter.isalnum() or letter in "-_." for letter in name) or name.startswith("."):
        raise UserError(f"arm {name!r}: its name becomes a folder: letters, digits, -, _ and . only")
    settings = {str(key).replace("-", "_"): value for key, value in described.items()}
    encoder, named = settings.pop("encoder", None), settings.pop("recipe", None)
    method = settings.get("method")
    if encoder is not None or method in UNTRAINED:
        own = {key: value for key, value in settings.items() if key != "method"}
        may = set(OF_SCRATCH) if method == "scratch" else set()
        if set(own) - may or named is not None or (encoder is not None and method is not None):
            but = f" but {', '.join(OF_SCRATCH)}" if may else ""
            raise UserError(f"arm {name}: nothing is trained, so no other setting{but} can be given")
        if method == "init" and config.init is None:
            raise UserError(f"arm {name}: method init needs --init, the shared warm start")
        if method == "scratch":
            known_good = PretrainConfig.checked({**own, "store": "", "out": ""}, f"arm {name}")
            own = {key: getattr(known_good, key) for key in own}
        return Arm(name, None, config.init if method == "init" else encoder, own)
    common = dict(config.pretrain)
    known = recipes()
    if named is None and method in known and method not in method_names():  # `--methods alice-paper`
        named = settings.pop("method")
    if named is not None:
        file = recipe(named)
        if file is None:
            raise UserError(f"arm {name}: no recipe {named!r}; {nearest(named, known)}")
        common = _over(yaml.safe_load(file.read_text(encoding="utf-8")), config.pretrain)
    for key in FIXED:
        if key in settings or key in common:
            raise UserError(f"arm {name}: {key} is the same for all arms; give it to `alice compare` itself")
    return Arm(name, {"on_collapse": "warn", **common, **settings}, None)


def _over(recipe: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """A recipe overridden by the settings that all arms share; it keeps its method, and in its groups the keys not
    given."""
    merged = {**recipe, **given}
    if "method" in recipe:
        merged["method"] = recipe["method"]
    groups = ["options"]
    network = recipe.get("backbone", PretrainConfig.model_fields["backbone"].default)
    if given.get("backbone", network) == network:
        groups.append("backbone_options")
    elif "backbone_options" not in given:
        merged.pop("backbone_options", None)  # they are of the recipe's network
    for group in groups:
        if group in recipe and group in given:
            merged[group] = {**recipe[group], **given[group]}
    return merged
