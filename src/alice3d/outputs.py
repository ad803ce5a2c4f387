"""Output folders: who made them, with which settings, and whether the work in them is whole."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import alice3d
from alice3d.errors import UserError

MARKER = "status.json"
"""{kind, version, settings, state: started | done, result}; written first, and again last."""
UNFINISHED = ".unfinished-"
"""How the names of files begin that are still being written."""
State = Literal["new", "started", "done"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    The file is forced to disk first, so `path` is whole or as it was, whenever the machine stops. What a killed
    process leaves begins with `UNFINISHED`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix="".join(path.suffixes[-2:]))
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes private files; results are for others too
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_marker(out: Path) -> dict[str, Any] | None:
    """What `begin` or `finish` wrote; None where there is none or it is damaged."""
    try:
        marker = json.loads((out / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) and {"kind", "settings", "state"} <= set(marker) else None


def check(out: Path, kind: str, settings: dict[str, Any], *, overwrite: bool) -> State:
    """Look at an output folder; nothing is written.

    Args:
        out: the folder.
        kind: of result, such as `matcher`.
        settings: all that the result depends on, as plain JSON values.
        overwrite: whatever is there may go.

    Returns:
        `new`: missing, empty or to be overwritten; `started`: an earlier call with the same settings stopped midway;
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
    differing = _first_difference(marker["settings"], json.loads(json.dumps(settings)))
    if differing is not None:
        raise UserError(f"{out}: was made with {differing}; choose another folder or give --overwrite")
    return "done" if marker["state"] == "done" else "started"


def _first_difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str | None:
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            return _first_difference(before, now, f"{prefix}{key}.")
        if prefix == "inputs.":
            return f"another {key} (its content differs)"
        return f"{prefix}{key} {_short(before)}, this call has {_short(now)}"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def begin(out: Path, kind: str, settings: dict[str, Any], *, state: State, overwrite: bool = False) -> None:
    """Claim the folder, once the inputs are known to be good; clears what an overwritten earlier run left, and files
    that a killed one was writing.

    Files that no command of ours made are never removed.

    Raises:
        UserError: it cannot be written.
    """
    try:
        if state == "new" and overwrite and read_marker(out) is not None:
            shutil.rmtree(out)
        out.mkdir(parents=True, exist_ok=True)
        for left in out.rglob(f"{UNFINISHED}*"):
            left.unlink(missing_ok=True)
        if state == "new":
            _write(out, kind, settings, "started", None)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from None


def finish(out: Path, result: dict[str, Any]) -> None:
    """Mark the work in the folder as whole; `result` is what `--json` prints, now and when the call is repeated."""
    marker = read_marker(out)
    assert marker is not None, "begin() comes before finish()"
    _write(out, marker["kind"], marker["settings"], "done", result)


def earlier_result(out: Path) -> dict[str, Any]:
    """The result that `finish` kept."""
    marker = read_marker(out)
    assert marker is not None
    return dict(marker["result"] or {})


def _write(out: Path, kind: str, settings: dict[str, Any], state: str, result: dict[str, Any] | None) -> None:
    content = {"kind": kind, "version": alice3d.__version__, "state": state, "settings": settings, "result": result}
    write_text(out / MARKER, json.dumps(content, indent=1))
