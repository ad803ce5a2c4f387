"""From a folder of scans to a store: find, check, prepare in parallel, resume where it stopped."""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from alice3d import console
from alice3d.apart import refuse_sources_inside
from alice3d.data.prepare.case import Task, cannot_write, refused_row, stamp, work
from alice3d.data.prepare.finish import finish_index
from alice3d.data.prepare.options import PrepareOptions, check_settings, new_spec
from alice3d.data.prepare.patients import known_patients, new_salt, patient_keys
from alice3d.data.prepare.splitting import earlier_splits, splits_of
from alice3d.data.prepare.summary import SHOWN, dry_run, result_of
from alice3d.data.prepare.taken_for import files_of, say_table
from alice3d.data.prepare.withdrawn import check_prune, report, report_replaced, root_of
from alice3d.data.sources.layouts import find_sources
from alice3d.data.sources.listed import NO_FILE
from alice3d.data.sources.sources import Found, Source
from alice3d.data.store import Store, StoreSpec
from alice3d.data.store.index import INDEX, Row, appending, part_name, read_index, ready_to_append
from alice3d.data.store.repair import repair_index
from alice3d.data.store.spec import SPEC, read_spec, spec_content, write_spec
from alice3d.data.store.splits import write_splits
from alice3d.data.store.writer import (
    claim,
    finish_replacement,
    is_fresh,
    replacement_of,
    settling,
    sweep,
    sync_folders,
    unseal,
)
from alice3d.data.store.writer import verify as verify_files
from alice3d.data.tables.label_names import without_ignored
from alice3d.errors import UserError, WorkFailed
from alice3d.executors import run_batch
from alice3d.locks import locked


def prepare(
    scans: Path, store: Path, options: PrepareOptions | None = None, *, executor: Executor | None = None
) -> dict[str, Any]:
    """Fill a store, or add new scans to one.

    Args:
        scans: folder, or one file.
        store: folder of the store.
        options: see `PrepareOptions`.
        executor: runs the cases instead of local processes.

    Returns:
        `taken`, `refused` (counts in the store), `reasons` (reason to count), `store`, and `added` (by this call).

    Raises:
        UserError: nothing to read, a store made with other settings, or no scan could be taken.
        WorkFailed: the store cannot be written.
    """
    options = options or PrepareOptions()
    found = find_sources(scans, options.labels, options.channel)
    patients = known_patients(found, options.splits)
    for warning in found.warnings:
        console.warn(warning)
    check_apart(store, scans, options.labels, found)
    if options.overwrite and options.shard is not None:
        raise UserError("overwrite: not with --shard, whose calls share one store; remove the store first")
    if options.prune and options.shard is not None:
        raise UserError("prune: not with --shard; give it to the last call, the one without --shard")
    finish_replacement(store)
    fresh = is_fresh(store, overwrite=options.overwrite)
    files = files_of(scans, options.labels, found, options) if options.dry_run else []
    if options.dry_run:
        say_table(files, found)
    names, ignored = without_ignored(options.label_names or found.label_names)
    spec = None if fresh else read_spec(store)
    if spec is None:
        spec = new_spec(found, options, names or found.structures)
    else:
        check_settings(store, spec, options, names)
    if fresh or options.dry_run or options.prune:  # else within the lock, once a damaged index is repaired
        rows = [] if fresh else read_index(store)
        keys = patient_keys(patients, spec.salt)
        if options.prune:
            check_prune(rows, found, root_of(scans, store), scans)
        splits_of(found, options, spec.seed, rows, keys, {} if fresh else earlier_splits(store), tell=False)
    if options.dry_run:
        report(rows, found, root_of(scans, store), prune=False)
        holds = any(row["status"] == "taken" for row in rows)
        return dry_run(found, files, spec, empty_is_fine=holds or options.shard is not None)
    _warn_left_out(found, spec)
    wanted = spec

    def goes_on(folder: Path) -> bool:
        begun = read_spec(folder)
        same = {"made_by": wanted.made_by, "salt": wanted.salt}
        return begun is not None and begun.model_copy(update=same) == wanted

    replaces = options.overwrite and spec_content(store) is not None
    if replaces:
        report_replaced(store, found)
    with replacement_of(store, goes_on) if replaces else nullcontext(store) as place:
        claim(place)
        with locked(place, options.shard):
            try:
                if options.shard is None:
                    sweep(place)
                    repair_index(place)
                unseal(place)
                with settling(place):
                    spec = _settle(place, spec, options, found, patients)
                keys = patient_keys(patients, spec.salt)
                result = _fill(place, spec, found, keys, root_of(scans, store), options, executor, ignored)
            except OSError as error:  # of the index, the spec or the manifest; an error of a scan becomes its row
                raise WorkFailed(cannot_write(store, error)) from None
    return {**result, "store": str(store)}


def _warn_left_out(found: Found, spec: StoreSpec) -> None:
    """Structures of label files with names for which the store has no value."""
    known = set(spec.label_names.values())
    unknown = [name for name in found.structures.values() if name not in known]
    if known and unknown:
        some = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
        console.warn(f"structures without a value in the store's label names are left out: {some}")


def _settle(store: Path, spec: StoreSpec, options: PrepareOptions, found: Found, patients: dict[str, str]) -> StoreSpec:
    """Write store.json, unless it exists by now: another shard of the same array may have written it."""
    existing = read_spec(store)
    wanted = spec if existing is None else existing
    if existing is not None:
        check_settings(store, existing, options, without_ignored(options.label_names or {})[0])
        if not existing.label_names and found.structures:
            if any(row["label"] for row in read_index(store)):
                raise UserError(
                    f"{store}: holds labels without names, these files name their structures; use another store"
                )
            wanted = existing.model_copy(update={"label_names": found.structures, "names_from_files": True})
    if patients and not wanted.salt:
        wanted = wanted.model_copy(update={"salt": new_salt()})
    if wanted != existing:
        write_spec(store, wanted)
    return wanted


def _fill(
    store: Path,
    spec: StoreSpec,
    found: Found,
    keys: dict[str, str],
    root: str,
    options: PrepareOptions,
    executor: Executor | None,
    ignored: int | None,
) -> dict[str, Any]:
    rows = read_index(store)
    split_of = splits_of(found, options, spec.seed, rows, keys, earlier_splits(store))
    write_splits(store, split_of)
    taken = {row["id"]: row for row in rows if row["status"] == "taken"}
    todo = [source for source in found.sources if not _is_done(store, source, taken.get(source.id))]
    if options.shard is not None:
        position, count = options.shard
        mine = {source.name for source in found.sources[position - 1 :: count]}
        todo = [source for source in todo if source.name in mine]
    _warn_changed(todo, taken)
    tasks = (
        Task(
            source=source if executor is None else _absolute(source),
            store=store if executor is None else store.absolute(),
            split=split_of.get(source.id, ""),
            spacing_mm=spec.spacing_mm,
            modality=spec.modality,
            modality_given=options.modality != "auto",
            crop=spec.crop,
            label_names=spec.label_names,
            unoriented=options.unoriented,
            ignored=ignored,
            patient=keys.get(source.id, taken.get(source.id, {}).get("patient", "")),
            root=root,
            names_declared=not spec.names_from_files,
            volume=options.volume,
        )
        for source in todo
    )
    index = store / (part_name(options.shard) if options.shard else INDEX)
    added = 0
    ready_to_append(index)
    with console.progress("Preparing", len(todo)) as bar:
        lost_reason = "the process that prepared it died: out of memory, or a crash in a library"
        results = run_batch(
            work,
            tasks,
            jobs=options.jobs,
            lost=lambda task: refused_row(task.source, lost_reason, task.split, task.root),
            executor=executor,
        )
        with appending(index, lambda: sync_folders(store)) as append:
            for row in results:
                append(row)
                added += row["status"] == "taken"
                bar.advance(note=row["id"] if row["status"] == "taken" else f"{row['id']} refused")
    if options.shard is None:
        finish_index(store, found, split_of, keys, root, prune=options.prune)
    return result_of(store, added, len(todo), empty_is_fine=options.shard is not None)


def verify(store: Path) -> dict[str, Any]:
    """Compare every file of a store with its checksum.

    Returns:
        `files` (count) and `store`.

    Raises:
        UserError: no store there.
        WorkFailed: damaged files; the first are listed.
    """
    opened = Store.open(store)
    rows = read_index(store)
    faults = verify_files(store, rows)
    for name, fault in faults[:SHOWN]:
        console.say(f"  {name} {fault}")
    if faults:
        arrays = [name for name, _ in faults if name not in (INDEX, SPEC)]
        advice = (
            "delete the damaged arrays and run the call of alice prepare that filled the store again"
            if len(arrays) == len(faults)
            else f"take {INDEX} and {SPEC} from a copy, or prepare the scans into a new store"
        )
        raise WorkFailed(
            f"{store}: {len(faults)} files are damaged, the first: {faults[0][0]} {faults[0][1]}; {advice}"
        )
    count = sum(1 + bool(row["label"]) for row in opened.rows.values())
    console.say(f"{store}: {count} arrays match their checksums")
    return {"files": count, "store": str(store)}


def _warn_changed(todo: list[Source], taken: dict[str, Row]) -> None:
    """Warn of cases that will be replaced: a scan of the same name from another folder looks like a changed one."""
    changed = [source.id for source in todo if source.id in taken and _has_changed(source, taken[source.id])]
    if changed:
        some = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
        console.warn(
            f"{len(changed)} cases of the same name are prepared again from other files than before ({some}); "
            "if these are other scans, prepare them into another store, or rename them"
        )


def _absolute(source: Source) -> Source:
    """The same with absolute paths, valid on another machine."""
    return replace(
        source,
        path=source.path.absolute(),
        files=None if source.files is None else tuple(path.absolute() for path in source.files),
        label=None if source.label is None else source.label.absolute(),
        more_labels=tuple(path.absolute() for path in source.more_labels),
    )


def _is_done(store: Path, source: Source, row: Row | None) -> bool:
    """Accepted, its arrays exist, and its files are unchanged; a label that is not given now is kept.

    So is a case that a list names and whose file is gone: it is missing, see `withdrawn`.
    """
    if row is not None and row["source"] == source.name and source.fault == NO_FILE:
        return True
    if row is None or row["source"] != source.name or source.fault:
        return False
    if not all((store / name).exists() for name in (f"images/{row['id']}.b2nd", row["label"]) if name):
        return False
    now, then = stamp(source).split(), row["stamp"].split()
    return now == then[: len(now)] and (source.label is None or len(now) == len(then))


def _has_changed(source: Source, row: Row) -> bool:
    """The case was prepared from other files than the given ones; an added or missing label is no change."""
    seen = zip(stamp(source).split(), row["stamp"].split(), strict=False)
    return row["source"] != source.name or any(now != then for now, then in seen)


def check_apart(store: Path, scans: Path, labels: Path | None, found: Found) -> None:
    """Refuse a store that would be written into the folder of its own scans or labels.

    Raises:
        UserError: a scan or label lies in the store, or the store is the folder of scans or labels.
    """
    given = [path for path in (scans, labels) if path is not None]
    if store.resolve() in {path.resolve() for path in given}:
        raise UserError(f"{store}: is the folder of scans or labels itself; choose another folder for the store")
    files = [(source.path, source.label, *(source.files or ())) for source in found.sources]
    refuse_sources_inside(store, [*given, *(file for several in files for file in several if file is not None)])
