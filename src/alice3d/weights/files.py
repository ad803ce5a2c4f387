"""Weights and their cards: safetensors beside a JSON file that says what they are and what they were trained on."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alice3d.errors import UserError
from alice3d.files import file_sha256, replacing, write_text
from alice3d.nn.backbones.base import Backbone
from alice3d.nn.backbones.registry import build_backbone
from alice3d.nn.heads.embedding import FPN3D
from alice3d.version import __version__
from alice3d.weights.card import check_card

FORMAT_VERSION = 1
SHIPPED = Path(__file__).parent / "shipped"
"""Weights that come with the package: <name>/<kind>.safetensors and its card."""
NO_SPACE = re.compile("no space left|quota exceeded", re.IGNORECASE)


def save_weights(folder: Path, kind: str, state: dict[str, Tensor], card: dict[str, Any]) -> Path:
    """Write `<kind>.safetensors`, then its card `<kind>.json` with the SHA-256 of the former.

    Each appears whole or not at all, and an earlier card is gone before the weights are replaced: a card never stands
    beside other weights than its own.

    Args:
        folder: where; made if missing.
        kind: encoder, matcher or model.
        state: the module's state dict.
        card: what the design lists; format version, kind, axes, program version and checksum are filled in.

    Returns:
        path of the safetensors file.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    path = folder / f"{kind}.safetensors"
    card_path = path.with_suffix(".json")
    full = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "version": __version__,
        "axes": "RAS",
        "created_by": f"alice3d {__version__}",
        **card,
    }
    # safetensors wants contiguous tensors that share no memory
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    with replacing(path) as temporary:
        try:
            save_file(plain, temporary)
        except SafetensorError as error:
            if NO_SPACE.search(str(error)):  # it knows no OSError
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        full["sha256"] = file_sha256(temporary)
        card_path.unlink(missing_ok=True)
    write_text(card_path, json.dumps(full, indent=1))
    return path


def shipped_names(kind: str) -> list[str]:
    """Names of the weights of this kind that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{kind}.safetensors"))


def find_weights(name_or_path: str | os.PathLike[str], *kinds: str) -> Path:
    """The safetensors file that a shipped name, a run folder or a file path means; earlier kinds are tried first.

    Raises:
        UserError: nothing there.
    """
    given = Path(name_or_path)
    for folder in (SHIPPED / given, given):
        for kind in kinds:
            if (folder / f"{kind}.safetensors").is_file():
                return folder / f"{kind}.safetensors"
    if given.is_file() and given.suffix == ".safetensors":
        return given
    names = ", ".join(name for kind in kinds for name in shipped_names(kind)) or "none"
    raise UserError(f"{given}: no {kinds[0]}.safetensors there, nor a shipped {kinds[0]} (shipped: {names})")


def read_card(weights: Path, *kinds: str) -> dict[str, Any]:
    """The card beside a safetensors file; its `kind`, not the file's name, says what the weights are.

    Args:
        weights: the file.
        kinds: that will do: encoder, matcher or model.

    Raises:
        UserError: missing, not JSON, of another kind or of a newer format, or a field is missing or wrong.
    """
    path = weights.with_suffix(".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path.name}: the card is missing beside {weights.name}; without it the weights say nothing"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path.name}: not a readable JSON card ({error})") from None
    kind = card.get("kind") if isinstance(card, dict) else type(card).__name__
    if not isinstance(card, dict) or kind not in kinds:
        raise UserError(f"{path.name}: kind is {kind!r}, expected {' or '.join(map(repr, kinds))}")
    if card.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path.name}: format_version {card.get('format_version')!r} is unknown to alice3d {__version__} "
            f"(knows {FORMAT_VERSION}); update the program"
        )
    check_card(card, str(kind), path.name)
    return card


def read_model_card(name_or_path: str | os.PathLike[str], task: str) -> tuple[Path, dict[str, Any]]:
    """Weights and card of a model of a task, from a `finetune` folder or a file.

    Raises:
        UserError: missing, damaged, or a model of another task.
    """
    weights = find_weights(name_or_path, "model")
    card = read_card(weights, "model")
    if card.get("task") != task:
        raise UserError(f"{weights.with_suffix('.json').name}: task is {card.get('task')!r}, expected {task!r}")
    return weights, card


def read_state(weights: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU.

    Raises:
        UserError: truncated, not a safetensors file, or not the one whose checksum the card beside it holds (cards of
            early versions hold none).
    """
    try:
        kept = _kept_checksum(weights.with_suffix(".json"))
        if kept and file_sha256(weights) != kept:
            raise UserError(
                f"{weights.name}: damaged, or not the file that its card was written for (the SHA-256 differs); copy "
                "both again, or make them anew"
            )
        state: dict[str, Tensor] = load_file(weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{weights.name}: not a readable safetensors file ({error})") from None
    return state


def _kept_checksum(card: Path) -> str | None:
    """The checksum that a card holds; None without a card, or in one of an early version."""
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # `read_card` has its say on those
    return content.get("sha256") if isinstance(content, dict) else None


def fill_module(module: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load a state dict whole into a module.

    Raises:
        UserError: keys or shapes differ from what the card promises.
    """
    try:
        module.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        )
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{where}: weights do not fit the network of their card ({first})") from None


def backbone_of(card: dict[str, Any]) -> Backbone:
    """A fresh backbone as a card describes it."""
    described = card["backbone"]
    return build_backbone(described["name"], int(described["in_channels"]), described.get("options", {}))


def load_encoder(name_or_path: str | os.PathLike[str]) -> tuple[Backbone, dict[str, Any]]:
    """An encoder and its card, from a shipped name, a run folder or a file; in evaluation mode.

    A matcher is accepted too: its backbone is the encoder.

    Raises:
        UserError: missing, damaged, or not what its card says.
    """
    path = find_weights(name_or_path, "encoder", "matcher")
    card = read_card(path, "encoder", "matcher")
    if card["kind"] == "matcher":
        return load_matcher(path)[0].backbone, card
    backbone = backbone_of(card)
    fill_module(backbone, read_state(path), path.name)
    return backbone.eval(), card


def load_matcher(name_or_path: str | os.PathLike[str]) -> tuple[FPN3D, dict[str, Any]]:
    """A matcher and its card, from a shipped name, a run folder or a file; in evaluation mode.

    Raises:
        UserError: missing, damaged, or not what its card says.
    """
    path = find_weights(name_or_path, "matcher")
    card = read_card(path, "matcher")
    matching = card.get("matching", {})
    backbone = backbone_of(card)
    with torch.random.fork_rng(devices=[]):  # what is drawn after it is the same whether or not there was a head here
        matcher = FPN3D(
            backbone,
            fine_width=int(matching.get("fine_width", 32)),
            coarse_width=int(matching.get("coarse_width", 64)),
            trunk=bool(matching.get("trunk", False)),
        )
    fill_module(matcher, read_state(path), path.name)
    return matcher.eval(), card


def read_card_of(name_or_path: str | Path) -> tuple[Path, dict[str, Any]]:
    """The file and the card of an encoder or a matcher."""
    path = find_weights(name_or_path, "encoder", "matcher")
    card = read_card(path, "encoder", "matcher")
    backbone_of(card)  # refuses a backbone that this program does not know
    return path, card
