"""store.json: how every scan of a store was prepared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.errors import UserError
from alice3d.files import write_text

SPEC = "store.json"
FORMAT = "alice-store"
VERSION = 1


class StoreSpec(BaseModel):
    """Content of store.json: how every scan of the store was prepared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["alice-store"] = "alice-store"
    version: int = VERSION
    made_by: str = ""
    axes: Literal["RAS"] = "RAS"
    spacing_mm: tuple[float, float, float]
    modality: Literal["ct", "mr"]
    intensity: IntensityRule
    """Default rule that maps stored values to network inputs; the arrays do not depend on it."""
    crop: Literal["body", "none"] = "body"
    label_names: dict[int, str] = {}
    """Value to name, as declared; empty where nothing was declared."""
    names_from_files: bool = False
    """The names were collected from label files that name their structures, not declared: the values of a plain label
    map are then unknown, and it is refused."""
    seed: int = 0
    """Seed of the default split."""
    salt: str = ""
    """Random, drawn once, of the keys that stand for patients in the index; empty where no patient is known."""


def spec_content(folder: Path) -> dict[str, Any] | None:
    """Content of a folder's store.json, not checked further; None where there is none, {} where it is damaged.

    Raises:
        UserError: it cannot be read, or is not that of a store.
    """
    path = folder / SPEC
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from None
    except (ValueError, RecursionError):
        return {}
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: is not a store of alice (format {str(found)[:40]!r})")
    return dict(content)


def read_spec(folder: Path) -> StoreSpec | None:
    """store.json of a folder; None where there is none.

    Raises:
        UserError: unreadable, damaged, not that of a store, or of an unknown format version.
    """
    content = spec_content(folder)
    if content is None:
        return None
    path, version = folder / SPEC, content.get("version")
    if content and version != VERSION:
        raise UserError(
            f"{path}: format version {str(version)[:40]}, this release reads {VERSION}; "
            "update alice3d or prepare the scans again"
        )
    try:
        return StoreSpec(**content)
    except (TypeError, ValidationError):
        raise UserError(f"{path}: is damaged; prepare again with --overwrite") from None


def write_spec(folder: Path, spec: StoreSpec) -> None:
    """Write store.json, atomically."""
    content = spec.model_dump(mode="json", exclude=set() if spec.salt else {"salt"})
    write_text(folder / SPEC, json.dumps(content, indent=1) + "\n")
