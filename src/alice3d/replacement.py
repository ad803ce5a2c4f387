"""A run that replaces an earlier one: it lies inside the folder until it is complete, then takes its place."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alice3d.errors import UserError
from alice3d.files import write_text
from alice3d.locks import LOCK
from alice3d.version import __version__

MARKER = "status.json"
"""{kind, version, settings, state: started | done, result, foreign, files, ...}; written first, and again last.

`foreign` names what was in the folder before; `files`, once done, names what the command made, and `results` those
files without which it is not done; `pinned` is what the run chose of its inputs; `overwrite` says whether it was begun
by `--overwrite`, and `replaces` names the files of an earlier run that are not removed yet.
"""
REPLACEMENT = ".replacement"
"""Folder of a run in the folder whose content it will replace."""
SCORES = "evaluation"
"""Kind of the folders of `alice evaluate`, which belong to the model that they lie in."""


def shown(path: Path) -> Path:
    """A path in a run as it will be when the run is in its place."""
    return Path(*(part for part in path.parts if part != REPLACEMENT))


def read_marker(out: Path) -> dict[str, Any] | None:
    """The marker of a folder; None where it is missing or damaged."""
    try:
        marker = json.loads((out / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and {"kind", "settings", "state"} <= set(marker) else None


def write_marker(out: Path, content: Mapping[str, Any]) -> None:
    """Write the marker of a folder, atomically."""
    write_text(out / MARKER, json.dumps({**content, "version": __version__}, indent=1))


def made_by(out: Path, marker: Mapping[str, Any]) -> list[str]:
    """Files that the run of a folder made, relative to it, without its marker; those of a finished run are recorded.

    The files of an unfinished run are not: all files added since it began count as its own.
    """
    foreign = {MARKER, REPLACEMENT, *marker.get("foreign", ())}
    names = [path.relative_to(out) for path in out.rglob("*") if path.is_symlink() or not path.is_dir()]
    present = [name.as_posix() for name in names if name.parts[0] not in foreign and not name.parts[0].startswith(LOCK)]
    recorded = marker.get("files") if marker["state"] == "done" else None
    return sorted(present if recorded is None else set(present) & set(recorded))


def scores_inside(out: Path) -> list[str]:
    """Files of the evaluations of a model that lie in its folder, relative to it: they go with the model."""
    found: list[str] = []
    for inner in sorted(out.iterdir()) if out.is_dir() else ():
        marker = read_marker(inner)
        if marker is not None and marker["kind"] == SCORES and inner.name != REPLACEMENT:
            found += [f"{inner.name}/{name}" for name in (*made_by(inner, marker), MARKER)]
    return found


def clear(out: Path) -> None:
    """Remove the files of the folder's run and its scores, and the folders inside that are then empty."""
    marker = read_marker(out)
    if marker is not None:
        _remove(out, [*made_by(out, marker), *scores_inside(out)])
        (out / MARKER).unlink()


def _remove(out: Path, names: list[str]) -> None:
    folders: set[Path] = set()
    for name in names:
        (out / name).unlink(missing_ok=True)
        folders.update(Path(name).parents)
    for folder in sorted(folders - {Path()}, reverse=True):  # inner folders first
        with contextlib.suppress(OSError):  # it holds something else, or is gone
            (out / folder).rmdir()


def put_in_place(out: Path) -> None:
    """Move a finished replacement into its place, then remove what is left of the earlier run.

    Every step can be repeated: after a kill the next call goes on. Files of others stay; where the new run needs the
    name of one, that file is renamed.
    """
    inside = out / REPLACEMENT
    marker = read_marker(inside)
    if marker is not None and marker["state"] == "done":
        if "replaces" not in marker:
            earlier = read_marker(out)
            old = [*made_by(out, earlier), *scores_inside(out)] if earlier is not None else []
            foreign = sorted({path.name for path in out.iterdir()} - {name.split("/")[0] for name in (*old, MARKER)})
            foreign = [name for name in foreign if name != REPLACEMENT and not name.startswith(LOCK)]
            marker |= {"foreign": foreign, "replaces": old}
            write_marker(inside, marker)
        _move(inside, out, set(marker["replaces"]), set(marker["files"]))
        os.replace(inside / MARKER, out / MARKER)
        shutil.rmtree(inside)
    marker = read_marker(out)
    if marker is not None and "replaces" in marker:
        made = set(marker["files"])
        _remove(out, [name for name in marker.pop("replaces") if name not in made])
        write_marker(out, marker)


def _move(inside: Path, out: Path, old: set[str], made: set[str]) -> None:
    for name in sorted(made):
        if not os.path.lexists(inside / name):  # moved by a call that was killed
            continue
        target = out / name
        if os.path.lexists(target) and name not in old:
            os.replace(target, target.with_name(f"{target.name}.before"))
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(inside / name, target)


def refuse_strangers(out: Path, names: Iterable[str]) -> None:
    """Refuse to write where a file lies that no run of this folder made.

    Raises:
        UserError: names the first of them.
    """
    marker = read_marker(out)
    ours = {*made_by(out, marker), *marker.get("files", ())} if marker is not None else set()
    strange = [name for name in names if name not in ours and os.path.lexists(out / name)]
    if strange:
        raise UserError(
            f"{out}: {strange[0]} lies there and is not of an earlier run; move it away, or choose another folder"
        )
