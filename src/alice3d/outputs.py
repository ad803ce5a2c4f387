"""Output folders: claimed by one run, with its settings and state; what an earlier run made is kept until then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from alice3d import console
from alice3d.apart import check_apart
from alice3d.apart import refuse_sources_inside as refuse_sources_inside
from alice3d.config import CommandConfig
from alice3d.errors import UserError
from alice3d.files import UNFINISHED, as_json
from alice3d.locks import LOCK, held
from alice3d.replacement import (
    MARKER,
    REPLACEMENT,
    clear,
    made_by,
    put_in_place,
    read_marker,
    write_marker,
)
from alice3d.replacement import refuse_strangers as refuse_strangers
from alice3d.replacement import shown as shown
from alice3d.same_settings import as_today, first_difference, plain

State = Literal["new", "started", "done"]
C = TypeVar("C", bound=CommandConfig)
_asked: ContextVar[Mapping[Path, dict[str, Any]]] = ContextVar("asked", default=MappingProxyType({}))
"""Folder that is claimed to the settings as the call gave them, before methods and weights added theirs."""


@dataclass(frozen=True)
class Output(Generic[C]):
    """An output folder that no other process writes to meanwhile.

    Attributes:
        out: as the user named it.
        config: the settings of the call, whose `out` is where to write: `out`, or a folder in it where an earlier run
            is to be replaced when this one is complete.
        kind: of result, such as `matcher`.
        overwrite: an earlier run may be replaced.
    """

    out: Path
    config: C
    kind: str
    overwrite: bool

    @property
    def folder(self) -> Path:
        """Where to write."""
        return Path(vars(self.config)["out"])

    def check(
        self,
        settings: Mapping[str, Any],
        *,
        former: Mapping[str, tuple[Any, Any]] | None = None,
        results: Iterable[str] = (),
    ) -> State:
        """See `check`.

        Args:
            settings, former: see `check`.
            results: names of files that the run will write: a file of somebody else under such a name is refused.
        """
        state = check(self.folder, self.kind, settings, overwrite=self.overwrite, former=former)
        if state != "done":
            refuse_strangers(self.out, results)
            if self.folder != self.out:
                console.say(f"{shown(self.out)}: the earlier run stays until this one, in {self.folder}, is complete")
        return state

    def finish(self, result: dict[str, Any], *, results: Iterable[str], more: Mapping[str, Any] | None = None) -> None:
        """Mark the work as finished, and put it in the place of an earlier run.

        Args:
            result: the keys of `--json`.
            results: names of files without which the work counts as unfinished.
            more: further keys of the marker.
        """
        finish(self.folder, result, results=results, more=more)
        if self.folder != self.out:
            put_in_place(self.out)

    @property
    def earlier_result(self) -> dict[str, Any]:
        """The result that the finished run kept."""
        return earlier_result(self.folder)


@contextlib.contextmanager
def claimed(config: C, kind: str, *, out: Path | None = None, chief: bool = True) -> Iterator[Output[C]]:
    """Claim the output folder of a call: it lies apart from the inputs, and no other process writes to it.

    A folder that is made for this and stays empty goes again.

    Args:
        config: of the call.
        kind: of result.
        out: the folder, where the settings do not name it.
        chief: of several processes of one run, the one that claims.

    Raises:
        UserError: it is, holds or lies inside an input, another process writes to it, or it cannot be written.
    """
    folder = out if out is not None else Path(vars(config)["out"])
    overwrite = bool(getattr(config, "overwrite", False))
    check_apart(config)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; an output folder is needed")
    with held(folder) if chief else contextlib.nullcontext():
        if chief:
            put_in_place(folder)  # a finished run that was killed just before
        asked = config.settings()
        place = _place(folder, kind, asked, overwrite=overwrite)
        token = _asked.set({**_asked.get(), place: asked})
        try:
            yield Output(folder, config.model_copy(update={"out": place}), kind, overwrite)
        finally:
            _asked.reset(token)


def _place(out: Path, kind: str, settings: Mapping[str, Any], *, overwrite: bool) -> Path:
    """Where a call writes; it goes on with the run that was begun by the same settings, inputs aside."""
    inside, marker = out / REPLACEMENT, read_marker(out)
    ours = _is_asked(marker, kind, settings)
    if not overwrite and ours and marker is not None and marker["state"] == "done":
        return out
    if _is_asked(read_marker(inside), kind, settings):
        return inside
    if not overwrite or marker is None or marker["kind"] != kind:
        return out
    return out if ours and marker["state"] == "started" and marker.get("overwrite") else inside


def _is_asked(marker: Mapping[str, Any] | None, kind: str, settings: Mapping[str, Any]) -> bool:
    """Whether a run was begun by a call with these settings."""
    if marker is None or marker["kind"] != kind:
        return False
    return first_difference(plain(marker.get("asked") or marker["settings"]), plain(settings)) is None


def pinned(folder: Path, kind: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the run of a folder had chosen of its inputs when it began; None where there is none to go on with.

    Args:
        folder: where the run writes.
        kind: of result.
        settings: of this call, with the inputs that do not depend on the choice.
    """
    marker = read_marker(folder)
    if marker is None or marker["kind"] != kind:
        return None
    before, now = plain(marker["settings"]), plain(settings)
    known = (now.get("inputs") or {}).keys()
    before["inputs"] = {name: value for name, value in (before.get("inputs") or {}).items() if name in known}
    return marker.get("pinned") if first_difference(before, {"inputs": {}, **now}) is None else None


def check(
    out: Path,
    kind: str,
    settings: Mapping[str, Any],
    *,
    overwrite: bool,
    former: Mapping[str, tuple[Any, Any]] | None = None,
) -> State:
    """Check an output folder; nothing is written.

    Args:
        out: the folder.
        kind: of result, such as `matcher`.
        settings: all that the result depends on, as plain JSON values.
        overwrite: earlier output of this kind may be replaced.
        former: see `as_today`.

    Returns:
        `new`: missing, empty or to be overwritten; `started`: an earlier call with the same settings was interrupted,
        or some of its results are missing; `done`: it finished, and they are there.

    Raises:
        UserError: it holds something else, or was made with other settings or inputs.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; an output folder is needed")
    if not out.exists() or all(_is_passing(path) for path in out.iterdir()):
        return "new"
    marker = read_marker(out)
    if marker is None:
        if overwrite:
            return "new"
        raise UserError(f"{out}: holds something else; choose another folder or give --overwrite")
    if marker["kind"] != kind:
        raise UserError(
            f"{out}: holds: {marker['kind']}; wanted: {kind}; --overwrite replaces results of one kind only: choose "
            "another folder"
        )
    differing = first_difference(as_today(plain(marker["settings"]), former), plain(settings))
    if differing is not None:
        if overwrite:
            return "new"
        raise UserError(f"{out}: was made with {differing}; choose another folder or give --overwrite")
    if marker["state"] != "done":
        return "started"
    gone = [name for name in marker.get("results", ()) if not is_there(out / name)]
    if gone:
        some = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
        console.say(f"{out}: {some} {'is' if len(gone) == 1 else 'are'} missing; made again")
    return "started" if gone else "done"


def is_there(path: Path) -> bool:
    """Whether a result is there and not empty."""
    return path.is_file() and path.stat().st_size > 0


def _is_passing(path: Path) -> bool:
    return path.name.startswith((UNFINISHED, LOCK)) or path.name == REPLACEMENT


def begin(
    out: Path,
    kind: str,
    settings: Mapping[str, Any],
    *,
    state: State,
    overwrite: bool = False,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write the marker, once the inputs are checked; removes what an unfinished run left that is begun anew.

    Files that were in the folder before, or were added after a finished command, are never removed.

    Args:
        more: further keys of the marker, such as `pinned`; they replace those of an interrupted call.

    Raises:
        UserError: it cannot be written.
    """
    try:
        if state == "new" and overwrite:
            clear(out)
        out.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        marker = read_marker(out)
        if state == "new" or marker is None:
            foreign = sorted(path.name for path in out.iterdir() if path.name != MARKER and not _is_passing(path))
            marker = {"kind": kind, "settings": settings, "foreign": foreign, "overwrite": overwrite}
            marker |= {"asked": _asked.get().get(out)}
        kept = {"pinned": marker["pinned"]} if "known" in marker.get("pinned", ()) else {}  # as the run first chose
        write_marker(out, {**marker, "state": "started", "result": None, **(more or {}), **kept})
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from None


def _sweep(out: Path) -> None:
    """Remove unfinished files of a killed call; folders with a marker of their own are another run's."""
    for path in list(out.iterdir()):
        if path.name.startswith(UNFINISHED):
            path.unlink(missing_ok=True)
        elif path.is_dir() and not path.is_symlink() and not (path / MARKER).is_file() and path.name != REPLACEMENT:
            _sweep(path)


def finish(
    out: Path, result: dict[str, Any], *, results: Iterable[str] = (), more: Mapping[str, Any] | None = None
) -> None:
    """Mark the work in the folder as finished; `result` is printed by `--json`, now and when the call is repeated."""
    marker = read_marker(out)
    assert marker is not None, "begin() comes before finish()"
    kept = {**marker, "state": "done", "result": as_json(result), "results": sorted(results), **(more or {})}
    write_marker(out, {**kept, "files": made_by(out, marker)})


def earlier_result(out: Path) -> dict[str, Any]:
    """The result that `finish` kept."""
    marker = read_marker(out)
    assert marker is not None
    return dict(marker["result"] or {})
