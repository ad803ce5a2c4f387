"""The folder of a store: whether a call may fill it, and what an overwriting one may take away."""

from __future__ import annotations

from pathlib import Path

from alice3d.data.index import INDEX, PARTS
from alice3d.data.index_mending import SET_ASIDE
from alice3d.data.sources import Found
from alice3d.data.splits import SPLITS
from alice3d.data.store_spec import SPEC, spec_content
from alice3d.data.store_writing import FOLDERS, MANIFEST, locked
from alice3d.errors import UserError
from alice3d.files import UNFINISHED


def check_apart(store: Path, scans: Path, labels: Path | None, found: Found) -> None:
    """Refuse a store that would be written among its own scans or labels.

    Raises:
        UserError: a scan or label lies where the store keeps its arrays, or the store is the folder of scans or labels.
    """
    given = [path for path in (scans, labels) if path is not None]
    if store.resolve() in {path.resolve() for path in given}:
        raise UserError(f"{store}: is the folder of scans or labels itself; choose another folder for the store")
    places = set(given)
    for source in found.sources:
        places |= {path.parent for path in (source.path, source.label, *(source.files or ())) if path is not None}
    resolved = {place.resolve() for place in places}
    for name in FOLDERS:
        own = (store / name).resolve()
        if any(place.is_relative_to(own) for place in resolved):
            raise UserError(
                f"{store}: its folder {name} holds scans or labels of this call; choose another folder for the store"
            )


def is_fresh(store: Path, *, overwrite: bool) -> bool:
    """Whether no store is there that this call goes on with; nothing is written.

    Raises:
        UserError: something else is there, or it cannot be read.
    """
    try:
        if store.exists() and not store.is_dir():
            raise UserError(f"{store}: is a file; an output folder is needed")
        if spec_content(store) is not None:
            return overwrite
        held = [path for path in store.iterdir() if not _is_a_beginning(path)] if store.exists() else []
        if held and spec_content(store) is not None:  # another shard wrote it just now
            return overwrite
    except OSError as error:
        raise UserError(f"{store}: cannot be read ({error.strerror})") from None
    in_the_way = sorted(path.name for path in held if _is_of_a_store(path.name))
    if in_the_way:
        raise UserError(f"{store}: holds {in_the_way[0]}, but no store ({SPEC} is missing); choose another folder")
    if held and not overwrite:
        raise UserError(f"{store}: holds something else and no store; choose another folder")
    return True


def _is_a_beginning(path: Path) -> bool:
    """What a call leaves that stopped before store.json was there, or another shard has just begun."""
    if path.name in FOLDERS and path.is_dir():
        return all(inner.name.startswith(UNFINISHED) for inner in path.iterdir())
    return path.name.startswith((".lock", UNFINISHED)) or path.name == SPEC


def _is_of_a_store(name: str) -> bool:
    """A file or folder that a store has beside store.json."""
    return name in (INDEX, MANIFEST, SPLITS, *FOLDERS) or Path(name).match(PARTS)


def claim(store: Path, *, clear: bool) -> None:
    """Make the folder; with `clear` take away the files of the store in it, and nothing else.

    Raises:
        UserError: it cannot be written, or somebody else is writing to it.
    """
    try:
        if clear and spec_content(store) is not None:
            with locked(store):
                _clear(store)
        for name in FOLDERS:
            (store / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{store}: cannot be written ({error.strerror})") from None


def _clear(store: Path) -> None:
    """Remove what a store has; store.json last, so that a call that is stopped here leaves a store."""
    mine = [store / name for name in (INDEX, MANIFEST, SPLITS)]
    mine += [*store.glob(PARTS), *store.glob(f"{SET_ASIDE}index*.csv"), *store.glob(f"{UNFINISHED}*")]
    for name in FOLDERS:
        mine += [*(store / name).glob("*.b2nd"), *(store / name).glob(f"{UNFINISHED}*")]
    for path in [*mine, store / SPEC]:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
