"""Propagate the labels of one or a few scans to others, without training a segmenter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from alice3d import console, outputs
from alice3d.config import ComputeConfig, OutputConfig
from alice3d.errors import UserError

if TYPE_CHECKING:
    from alice3d.data.sources.scan_list import ScanList
    from alice3d.matching import Matcher
    from alice3d.matching.batch import ScanRows
    from alice3d.matching.propagation import Atlas


class PropagateConfig(OutputConfig, ComputeConfig):
    """`alice propagate MATCHER SCANS… OUT --atlases DIR --labels DIR`."""

    positional: ClassVar[tuple[str, ...]] = ("matcher", "scans", "out")
    uncounted: ClassVar[frozenset[str]] = frozenset(
        {"matcher", "scans", "split", "atlases", "labels", "atlas_split", "jobs"}
    )
    matcher: str
    """Matcher: a folder or file of `alice train-matcher`, or the name of a shipped one."""
    scans: list[Path]
    """Scans to label: files and folders, or one store."""
    atlases: Path
    """Labelled scans: a file, a folder, or a store."""
    labels: Path | None = None
    """Label map or folder of them, each named like its scan; not needed for a store, which has its own."""
    atlas_split: str = ""
    """Splits of the store of labelled scans to use, comma separated; by default all."""
    count: Annotated[int, Field(ge=0)] = 0
    """Number of labelled scans to use, a random subset by `--seed`; 0 = all."""
    split: str = ""
    """Splits of the store of scans to label, comma separated; by default all."""
    vote: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Fraction of the votes that a voxel needs to be labelled; lower gives larger structures."""
    jobs: Annotated[int, Field(ge=1)] = 1
    """Processes; the result does not depend on it."""


def run(config: PropagateConfig) -> dict[str, Any]:
    """Write OUT/case.nii.gz for each scan, in its own grid; a later call adds new scans."""
    from alice3d.data.sources.scan_list import ScanList
    from alice3d.device import resolve_device
    from alice3d.matching import Matcher
    from alice3d.matching.batch import ScanRows

    device = resolve_device(config.device, config.threads)
    matcher = Matcher.load(config.matcher, device=device)
    scans = ScanList.of(config.scans, config.split)
    for source in scans.sources.values():
        if (config.out / f"{source.id}.nii.gz").resolve() == source.path.resolve():
            raise UserError(f"{config.out}: its label maps would replace the scans themselves; choose another folder")
    labelled, names = _labelled(config)
    chosen = _drawn(list(labelled.ids), config.count, config.seed)
    for warning in (*scans.warnings, *labelled.warnings):
        console.warn(warning)
    for store in (scans.store, labelled.store):
        if store is not None and (note := matcher.reading_note(store)):
            console.say(note)
    atlases, contents = _atlases(matcher, labelled, chosen, names)
    settings = config.settings(matcher=matcher.checksum, atlases=contents)
    state = outputs.check(config.out, "propagated labels", settings, overwrite=config.overwrite)
    rows = ScanRows(config.out, scans, anew=state == "new")
    for id, row in list(rows.rows.items()):
        if "reason" not in row and not (config.out / f"{id}.nii.gz").is_file():
            del rows.rows[id]
    if state == "done" and not rows.missing:
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    outputs.begin(config.out, "propagated labels", settings, state=state, overwrite=config.overwrite)
    _carry(config, matcher, rows, atlases, str(device))
    result = _result(config, rows.ordered(), names, chosen)
    if not result["written"]:
        first = result["refused"][0]
        raise UserError(f"none of {len(scans.ids)} scans could be labelled; {first['case']}: {first['reason']}")
    outputs.finish(config.out, result)
    tail = f", {len(result['refused'])} refused" if result["refused"] else ""
    console.say(
        f"{len(result['written'])} label maps from {len(chosen)} labelled scans written to {config.out}{tail}. "
        "Next: check them as overlays on their scans in a viewer, and correct them"
    )
    return result


def _labelled(config: PropagateConfig) -> tuple[ScanList, dict[int, str]]:
    """The scans with labels, and the names of the values where they are known."""
    from dataclasses import replace

    from alice3d.data.sources.layouts import with_structures
    from alice3d.data.sources.scan_list import ScanList
    from alice3d.data.sources.sources import Found, with_labels

    scans = ScanList.of([config.atlases], config.atlas_split)
    if scans.store is not None:
        if config.labels is not None:
            raise UserError(f"--labels {config.labels}: {config.atlases} is a store and has its own labels")
        ids = tuple(id for id in scans.ids if scans.store.case(id).structures)
        if not ids:
            raise UserError(
                f"{config.atlases}: no labelled case{' in ' + config.atlas_split if config.atlas_split else ''}"
            )
        return replace(scans, ids=ids), scans.store.label_names
    if config.labels is None:
        raise UserError(f"--labels is needed: the label maps of the scans in {config.atlases}")
    if not config.labels.exists():
        raise UserError(f"--labels {config.labels}: no such file or folder")
    if config.labels.is_file():
        if len(scans.ids) != 1:
            raise UserError(f"--labels {config.labels}: is one file for {len(scans.ids)} scans; give a folder")
        (scan,) = scans.sources.values()
        found = Found([replace(scan, label=config.labels, label_name=config.labels.name)])
    else:
        found = with_labels(Found(list(scans.sources.values())), config.labels)
        found = replace(found, sources=[source for source in found.sources if source.label is not None])
    found = with_structures(found)
    by_id = {source.id: source for source in found.sources}
    warnings = (*scans.warnings, *found.warnings)
    return replace(scans, sources=by_id, ids=tuple(sorted(by_id)), warnings=warnings), found.structures


def _drawn(ids: list[str], count: int, seed: int) -> list[str]:
    """A seeded random subset of `count` ids, nested: a subset of five is part of that of ten."""
    import numpy as np

    if not count:
        return ids
    if count > len(ids):
        raise UserError(f"--count {count}: there are {len(ids)} labelled scans")
    order = np.random.default_rng(seed).permutation(len(ids))
    return sorted(ids[n] for n in order[:count])


def _atlases(
    matcher: Matcher, scans: ScanList, chosen: list[str], names: dict[int, str]
) -> tuple[list[Atlas], list[str]]:
    """Embed the labelled scans; and checksums of each scan and its label."""
    from alice3d.geometry import Grid
    from alice3d.io.label_files import read_label_files
    from alice3d.io.read import read_header
    from alice3d.io.volume import Volume, voxels_checksum
    from alice3d.matching.batch import embed_scan
    from alice3d.matching.propagation import Atlas

    made, contents = [], []
    with console.progress("Embedding labelled scans", len(chosen)) as bar:
        for id in chosen:
            scan = embed_scan(scans, id, matcher)
            if scans.store is not None:
                label = Volume(scans.store.label(id)[:, :, :], scans.store.case(id).grid.affine)
            else:
                source = scans.sources[id]
                header = read_header(source.path, files=source.files)
                label = read_label_files(source.label_files, header, names, declared=False)
            x, y, z = label.array.shape
            atlas = Atlas(scan, label.array, Grid((x, y, z), label.affine)).cropped()
            if not atlas.boxes:
                raise UserError(f"{id}: its label map is empty; remove it from the labelled scans")
            made.append(atlas)
            contents.append(f"{scan.checksum[:16]}-{voxels_checksum(atlas.labels, atlas.grid.affine)[:16]}")
            bar.advance(note=id)
    return made, contents


def _carry(config: PropagateConfig, matcher: Matcher, rows: ScanRows, atlases: list[Atlas], device: str) -> None:
    """Label the missing scans; one that cannot be labelled gets a reason."""
    from alice3d.matching.batch import OpenMatcher, over_scans
    from alice3d.matching.propagation import Labelling

    rows.tidy()
    work = Labelling(rows.scans, atlases, config.vote, config.out)
    opened = OpenMatcher(config.matcher, matcher.mode, device, config.threads or 1)
    with console.progress("Labelling", len(rows.scans.ids), len(rows.rows)) as bar:
        for id, found in over_scans(work, rows.missing, matcher, opened, jobs=config.jobs):
            if "reason" in found:
                console.warn(f"{id} is refused: {found['reason']}")
            rows.add(id, found)
            bar.advance(note=id)


def _result(
    config: PropagateConfig, rows: list[dict[str, Any]], names: dict[int, str], chosen: list[str]
) -> dict[str, Any]:
    """The keys of `--json`; warns of scans that hardly show the same anatomy."""
    from alice3d.matching.landmarks import SAME_ANATOMY

    good = [row for row in rows if "reason" not in row]
    strange = [row["case"] for row in good if row["agreement"] < SAME_ANATOMY]
    if strange:
        some = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
        console.warn(
            f"{len(strange)} scans hardly show the labelled scans' anatomy; do not rely on their labels ({some})"
        )
    return {
        "written": [f"{row['case']}.nii.gz" for row in good],
        "refused": [{"case": row["case"], "reason": row["reason"]} for row in rows if "reason" in row],
        "atlases": chosen,
        "certainty": {row["case"]: row["certainty"] for row in good},
        "other_anatomy": strange,
        "labels": {str(value): name for value, name in names.items()},
        "out": str(config.out),
    }
