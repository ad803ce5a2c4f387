"""The arms of a comparison: each a named way to an encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import alice3d
from alice3d.config import nearest
from alice3d.errors import UserError

if TYPE_CHECKING:
    from alice3d.commands.compare import CompareConfig

RECIPES = Path(alice3d.__file__).parent / "configs"
FIXED = ("store", "out", "seed", "pairs", "init", "threads", "device", "overwrite")
"""Settings of `alice pretrain` that the comparison gives."""


@dataclass(frozen=True)
class Arm:
    """One way to an encoder.

    Attributes:
        name: of the arm and of its folder.
        pretrain: settings of its training; None where nothing is trained.
        encoder: one that exists; None for random weights, or where one is trained.
    """

    name: str
    pretrain: dict[str, Any] | None
    encoder: str | None


def make_arm(name: str, described: dict[str, Any], config: CompareConfig) -> Arm:
    """An arm from what its YAML entry says.

    Raises:
        UserError: the name is unfit for a folder, or the entry is wrong.
    """
    if not name or not all(letter.isalnum() or letter in "-_." for letter in name) or name.startswith("."):
        raise UserError(f"arm {name!r}: its name becomes a folder: letters, digits, -, _ and . only")
    settings = {str(key).replace("-", "_"): value for key, value in described.items()}
    encoder, recipe = settings.pop("encoder", None), settings.pop("recipe", None)
    method = settings.get("method")
    if encoder is not None or method in ("scratch", "init"):
        if set(settings) - {"method"} or (encoder is not None and method is not None):
            raise UserError(f"arm {name}: nothing is trained, so no other setting can be given")
        if method == "init" and config.init is None:
            raise UserError(f"arm {name}: method init needs --init, the shared warm start")
        return Arm(name, None, config.init if method == "init" else encoder)
    known = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    if recipe is None and method in known and method not in ("alice", "mae"):  # `--methods alice-paper`
        recipe = settings.pop("method")
    if recipe is not None:
        if recipe not in known:
            raise UserError(f"arm {name}: no recipe {recipe!r}; {nearest(recipe, known)}")
        settings = {**yaml.safe_load((RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8")), **settings}
    for key in FIXED:
        if key in settings or key in config.pretrain:
            raise UserError(f"arm {name}: {key} is the same for all arms; give it to `alice compare` itself")
    return Arm(name, {"on_collapse": "warn", **config.pretrain, **settings}, None)
