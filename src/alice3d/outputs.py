"""Output folders: which command made them, with which settings, and whether it has finished."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from alice3d.config import RENAMED
from alice3d.errors import UserError
from alice3d.files import UNFINISHED, as_json, write_text
from alice3d.version import __version__

MARKER = "status.json"
"""{kind, version, settings, state: started | done, result, foreign, files}; written first, and again last.

`foreign` names what was in the folder before; `files`, once done, names what the command made.
"""
State = Literal["new", "started", "done"]


def read_marker(out: Path) -> dict[str, Any] | None:
    """The marker of `begin` or `finish`; None where it is missing or damaged."""
    try:
        marker = json.loads((out / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and {"kind", "settings", "state"} <= set(marker) else None


def check(out: Path, kind: str, settings: dict[str, Any], *, overwrite: bool) -> State:
    """Check an output folder; nothing is written.

    Args:
        out: the folder.
        kind: of result, such as `matcher`.
        settings: all that the result depends on, as plain JSON values.
        overwrite: earlier output may be removed.

    Returns:
        `new`: missing, empty or to be overwritten; `started`: an earlier call with the same settings was interrupted;
        `done`: it finished.

    Raises:
        UserError: it holds something else, or was made with other settings or inputs.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; an output folder is needed")
    if overwrite or not out.exists() or all(path.name.startswith(UNFINISHED) for path in out.iterdir()):
        return "new"
    marker = read_marker(out)
    if marker is None:
        raise UserError(f"{out}: holds something else; choose another folder or give --overwrite")
    if marker["kind"] != kind:
        raise UserError(f"{out}: holds: {marker['kind']}; wanted: {kind}; choose another folder or give --overwrite")
    differing = _first_difference(_renamed(marker["settings"]), _renamed(json.loads(json.dumps(settings))))
    if differing is not None:
        raise UserError(f"{out}: was made with {differing}; choose another folder or give --overwrite")
    return "done" if marker["state"] == "done" else "started"


def _renamed(settings: dict[str, Any]) -> dict[str, Any]:
    """Under today's names, in groups as well: an earlier version may have begun the folder."""
    values = {key: _renamed(value) if isinstance(value, dict) else value for key, value in settings.items()}
    return {RENAMED.get(key, key): value for key, value in values.items()}


def _first_difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str | None:
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            differing = _first_difference(before, now, f"{prefix}{key}.")
            if differing is None:
                continue
            return differing
        if prefix == "inputs.":
            return f"another {key} (its content differs)"
        return f"{prefix}{key} {_short(before)}, this call has {_short(now)}"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def begin(out: Path, kind: str, settings: dict[str, Any], *, state: State, overwrite: bool = False) -> None:
    """Write the marker, once the inputs are checked; removes the files of an overwritten earlier run, and unfinished
    files of a killed one.

    Files that were in the folder before, or were added after a finished command, are never removed.

    Raises:
        UserError: it cannot be written.
    """
    try:
        if state == "new" and overwrite:
            _clear(out)
        out.mkdir(parents=True, exist_ok=True)
        for left in out.rglob(f"{UNFINISHED}*"):
            left.unlink(missing_ok=True)
        if state == "new":
            foreign = sorted(path.name for path in out.iterdir() if path.name != MARKER)
            _write(out, {"kind": kind, "state": "started", "settings": settings, "result": None, "foreign": foreign})
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from None


def remove(out: Path) -> None:
    """Remove what a command made in a folder, and the folder where nothing else is in it."""
    _clear(out)
    with suppress(OSError):
        out.rmdir()


def finish(out: Path, result: dict[str, Any]) -> None:
    """Mark the work in the folder as finished; `result` is printed by `--json`, now and when the call is repeated."""
    marker = read_marker(out)
    assert marker is not None, "begin() comes before finish()"
    _write(out, {**marker, "state": "done", "result": as_json(result), "files": _made(out, marker)})


def earlier_result(out: Path) -> dict[str, Any]:
    """The result that `finish` kept."""
    marker = read_marker(out)
    assert marker is not None
    return dict(marker["result"] or {})


def _write(out: Path, content: dict[str, Any]) -> None:
    write_text(out / MARKER, json.dumps({**content, "version": __version__}, indent=1))


def _made(out: Path, marker: dict[str, Any]) -> list[str]:
    """Files in the folder, relative to it, except those that were there before and the marker."""
    foreign = {MARKER, *marker.get("foreign", ())}
    names = [path.relative_to(out) for path in out.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(name.as_posix() for name in names if name.parts[0] not in foreign)


def _clear(out: Path) -> None:
    """Remove the files of the folder's earlier call, and the folders inside that are then empty.

    The files of an unfinished call are not recorded: all files added since it began count as its own.
    """
    marker = read_marker(out)
    if marker is None:
        return
    present = _made(out, marker)
    made = set(marker.get("files", present) if marker["state"] == "done" else present)
    folders: set[Path] = set()
    for name in (name for name in present if name in made):
        (out / name).unlink()
        folders.update((out / name).relative_to(out).parents)
    for folder in sorted(folders - {Path()}, reverse=True):  # inner folders first
        with suppress(OSError):  # it holds something else
            (out / folder).rmdir()
    (out / MARKER).unlink()
