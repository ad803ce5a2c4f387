"""Propagate the labels of one or a few scans to others, without training a segmenter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from alice3d import console, outputs
from alice3d.config import ComputeConfig, OutputConfig, Reads, ScanFilesConfig
from alice3d.errors import UserError

if TYPE_CHECKING:
    from alice3d.data.sources.scan_list import ScanList
    from alice3d.matching import Matcher
    from alice3d.matching.batch import ScanRows
    from alice3d.matching.propagation import Atlas


class PropagateConfig(OutputConfig, ScanFilesConfig, ComputeConfig):
    """`alice propagate MATCHER SCANS… OUT --atlases DIR --labels DIR`."""

    positional: ClassVar[tuple[str, ...]] = ("matcher", "scans", "out")
    uncounted: ClassVar[frozenset[str]] = frozenset(
        {"matcher", "scans", "split", "atlases", "labels", "atlas_split", "jobs"}
    )
    matcher: Annotated[str, Reads()]
    """Matcher: a folder or file of `alice train-matcher`, or the name of a shipped one."""
    scans: Annotated[list[Path], Reads()]
    """Scans to label: files and folders, or one store."""
    atlases: Annotated[Path, Reads()]
    """Labelled scans: a file, a folder, or a store."""
    labels: Annotated[Path | None, Reads()] = None
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
    from alice3d.matching.batch import ROWS, ScanRows

    with outputs.claimed(config, "propagated labels") as output:
        config, out = output.config, outputs.shown(output.out)
        device = resolve_device(config.device, config.threads)
        matcher = Matcher.load(config.matcher, device=device)
        scans = ScanList.of(config.scans, config.split, config.unoriented)
        labelled, names = _labelled(config)
        outputs.refuse_sources_inside(output.out, [*scans.files(), *labelled.files()])
        chosen = _drawn(list(labelled.ids), config.count, config.seed)
        for warning in (*scans.warnings, *labelled.warnings):
            console.warn(warning)
        for store in (scans.store, labelled.store):
            if store is not None and (note := matcher.reading_note(store)):
                console.say(note)
        atlases, contents = _atlases(matcher, labelled, chosen, names)
        settings = config.settings(matcher=matcher.checksum, atlases=contents)
        state = output.check(settings, results=[ROWS])
        rows = ScanRows(config.out, scans, anew=state == "new")
        for id, row in list(rows.rows.items()):
            if "reason" not in row and not outputs.is_there(config.out / f"{id}.nii.gz"):
                del rows.rows[id]
        if state == "done" and not rows.missing:
            console.say(f"{out}: already done")
            return output.earlier_result
        outputs.refuse_strangers(output.out, [f"{id}.nii.gz" for id in rows.missing])
        state = "started" if state == "done" else state
        outputs.begin(config.out, "propagated labels", settings, state=state, overwrite=config.overwrite)
        _carry(config, matcher, rows, atlases, str(device))
        result = _result(rows.ordered(), names, chosen, out)
        if not result["written"]:
            first = result["refused"][0]
            raise UserError(f"none of {len(scans.ids)} scans could be labelled; {first['case']}: {first['reason']}")
        output.finish(result, results=result["written"])
    tail = f", {len(result['refused'])} refused" if result["refused"] else ""
    console.say(
        f"{len(result['written'])} label maps from {len(chosen)} labelled scans written to {out}{tail}. "
        "Next: check them as overlays on their scans in a viewer, and correct them"
    )
    return result


def _labelled(config: PropagateConfig) -> tuple[ScanList, dict[int, str]]:
    """The scans with labels, and the names of the values where they are known."""
    from dataclasses import replace

    from alice3d.data.sources.labels import with_labels
    from alice3d.data.sources.layouts import with_structures
    from alice3d.data.sources.scan_list import ScanList
    from alice3d.data.sources.sources import Found

    scans = ScanList.of([config.atlases], config.atlas_split, config.unoriented)
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
                header = read_header(source.path, files=source.files, unoriented=scans.unoriented)
                label = read_label_files(source.label_files, header, names, declared=False, unoriented=scans.unoriented)
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


def _result(rows: list[dict[str, Any]], names: dict[int, str], chosen: list[str], out: Path) -> dict[str, Any]:
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
        "out": str(out),
    }
