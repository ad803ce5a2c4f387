"""Writing side of a store: atomically written arrays, a lock, and the manifest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alice3d.data.store.index import INDEX, PARTS, Row, read_index, write_rows
from alice3d.data.store.repair import SET_ASIDE
from alice3d.data.store.spec import SPEC, spec_content
from alice3d.data.store.splits import SPLITS
from alice3d.errors import UserError
from alice3d.files import UNFINISHED, file_sha256, write_text
from alice3d.locks import LOCK, locked
from alice3d.replacement import REPLACEMENT

try:
    import fcntl
except ImportError:  # Windows: shards start with the same settings, so the last to write store.json does no harm
    fcntl = None  # type: ignore[assignment]

MANIFEST = "SHA256SUMS"
"""In the form that `sha256sum --check` reads."""
FOLDERS = ("images", "labels")


def sync_folders(store: Path) -> None:
    """Sync the names of a store's arrays to disk, where the system supports it."""
    for name in FOLDERS:
        try:
            handle = os.open(store / name, os.O_RDONLY)
        except OSError:
            continue
        try:
            os.fsync(handle)
        except OSError:
            pass
        finally:
            os.close(handle)


@contextmanager
def settling(folder: Path) -> Iterator[None]:
    """Wait for the other shards of a job array that write store.json, and keep them waiting."""
    handle = os.open(folder / ".lock-settings", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove unfinished files of interrupted calls; only under the lock of a sole writer."""
    for place in (folder, *(folder / name for name in FOLDERS)):
        for path in place.glob(f"{UNFINISHED}*"):
            path.unlink(missing_ok=True)


def fold(folder: Path, rows: list[Row] | None = None) -> list[Row]:
    """Merge the parts of a job array into index.csv, drop arrays without a row, write the manifest.

    Args:
        folder: the store, held by a sole writer.
        rows: new content of the index; by default the union of all parts.

    Returns:
        the rows.
    """
    rows = read_index(folder) if rows is None else rows
    write_rows(folder / INDEX, rows)
    for part in folder.glob(PARTS):
        part.unlink()
    known = {f"images/{row['id']}.b2nd" for row in rows if row["status"] == "taken"}
    known |= {row["label"] for row in rows if row["label"]}
    for name in FOLDERS:
        for path in (folder / name).glob("*.b2nd"):
            if f"{name}/{path.name}" not in known:
                path.unlink()
    write_manifest(folder, rows)
    return rows


def write_manifest(folder: Path, rows: list[Row]) -> None:
    """SHA-256 of every file of the store."""
    lines = []
    for row in rows:
        if row["status"] == "taken":
            lines.append(f"{row['image_sha256']}  images/{row['id']}.b2nd")
            if row["label"]:
                lines.append(f"{row['label_sha256']}  {row['label']}")
    lines += [f"{file_sha256(folder / name)}  {name}" for name in (INDEX, SPEC)]
    write_text(folder / MANIFEST, "\n".join(lines) + "\n")


def unseal(folder: Path) -> None:
    """Remove the index and the spec from the manifest before they change; `fold` adds them again."""
    path = folder / MANIFEST
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if line.partition("  ")[2] not in (INDEX, SPEC)]
    if len(kept) < len(lines):
        write_text(path, "".join(f"{line}\n" for line in kept))


def verify(folder: Path, rows: list[Row]) -> list[tuple[str, str]]:
    """Compare every file with its checksum; the index and the spec only where no call is running or was interrupted.

    Returns:
        (file, fault) of each damaged one.
    """
    wanted = [(f"images/{row['id']}.b2nd", row["image_sha256"]) for row in rows if row["status"] == "taken"]
    wanted += [(row["label"], row["label_sha256"]) for row in rows if row["label"]]
    manifest = folder / MANIFEST
    if manifest.exists():
        lines = [line.partition("  ") for line in manifest.read_text(encoding="utf-8", errors="replace").splitlines()]
        wanted += [(name, checksum) for checksum, _, name in lines if name in (INDEX, SPEC)]
    faults = []
    for name, checksum in wanted:
        path = folder / name
        try:
            found = file_sha256(path)
        except FileNotFoundError:
            faults.append((name, "is missing"))
            continue
        except OSError as error:
            faults.append((name, f"cannot be read ({error.strerror})"))
            continue
        if found != checksum:
            faults.append((name, "has changed since it was written (checksum differs)"))
    return faults


def is_fresh(store: Path, *, overwrite: bool) -> bool:
    """Whether there is no store that this call continues; nothing is written.

    Raises:
        UserError: the folder holds something else, or cannot be read.
    """
    try:
        if store.exists() and not store.is_dir():
            raise UserError(f"{store}: is a file; an output folder is needed")
        if spec_content(store) is not None:
            return overwrite
        held = [path for path in store.iterdir() if not _is_a_beginning(path)] if store.exists() else []
        if held and spec_content(store) is not None:  # another shard has just written it
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
    """Whether a file was left by a call that stopped before it wrote store.json, or by another shard that has just
    begun."""
    if path.name in FOLDERS and path.is_dir():
        return all(inner.name.startswith(UNFINISHED) for inner in path.iterdir())
    return path.name.startswith((LOCK, UNFINISHED)) or path.name == SPEC


def _is_of_a_store(name: str) -> bool:
    """A file or folder of a store other than store.json."""
    return name in (INDEX, MANIFEST, SPLITS, *FOLDERS) or Path(name).match(PARTS)


def claim(store: Path) -> None:
    """Create the folders of a store.

    Raises:
        UserError: they cannot be written.
    """
    try:
        for name in FOLDERS:
            (store / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{store}: cannot be written ({error.strerror})") from None


COMPLETE = "complete"
"""File in a new store that is about to take the place of the one around it."""


@contextmanager
def replacement_of(store: Path, goes_on: Callable[[Path], bool]) -> Iterator[Path]:
    """The folder of a new store, which takes the place of `store` when the block ends without an error.

    Until then the earlier store stays as it is. Nobody else writes to it meanwhile.

    Args:
        store: holds a store.
        goes_on: whether a new store that an interrupted call left is the one that is asked for.

    Raises:
        UserError: another process is writing to it.
    """
    inside = store / REPLACEMENT
    with locked(store):
        _put_in_place(store)
        if inside.exists() and not goes_on(inside):
            shutil.rmtree(inside)
        yield inside
        (inside / COMPLETE).touch()
        _put_in_place(store)


def finish_replacement(store: Path) -> None:
    """Put a complete new store in place whose call was killed just before."""
    if (store / REPLACEMENT / COMPLETE).is_file():
        with locked(store):
            _put_in_place(store)


def _put_in_place(store: Path) -> None:
    """Move a complete new store to the place of the one around it; every step can be repeated after a kill.

    store.json goes first and comes last: in between there is no store to be read.
    """
    inside = store / REPLACEMENT
    if not (inside / COMPLETE).is_file():
        return
    if (inside / SPEC).is_file():
        (store / SPEC).unlink(missing_ok=True)
        for path in [*store.glob(PARTS), *store.glob(f"{SET_ASIDE}index*.csv")]:
            path.unlink()
        for name in (*FOLDERS, INDEX, SPLITS, MANIFEST, SPEC):
            files = sorted((inside / name).glob("*.b2nd")) if name in FOLDERS else [inside / name]
            for path in files:
                if path.is_file():
                    (store / path.relative_to(inside)).parent.mkdir(exist_ok=True)
                    os.replace(path, store / path.relative_to(inside))
    fold(store)  # arrays of the earlier store have no row
    shutil.rmtree(inside)
