"""Find landmarks in many scans from one or a few examples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d import console, files, outputs
from alice3d.config import ComputeConfig, OutputConfig, Reads, ScanFilesConfig
from alice3d.errors import UserError

if TYPE_CHECKING:
    from alice3d.data.sources.scan_list import ScanList
    from alice3d.data.tables.landmarks import Landmarks
    from alice3d.matching import Matcher
    from alice3d.matching.batch import ScanRows
    from alice3d.matching.landmarks import Example

RESULTS = ("landmarks.csv", "refused.csv")
COLUMNS = ("case", "structure", "x_mm", "y_mm", "z_mm", "similarity", "cycle_mm", "accepted")


class LandmarksConfig(OutputConfig, ScanFilesConfig, ComputeConfig):
    """`alice landmarks MATCHER SCANS… OUT --landmarks CSV`."""

    positional: ClassVar[tuple[str, ...]] = ("matcher", "scans", "out")
    uncounted: ClassVar[frozenset[str]] = frozenset(
        {"matcher", "scans", "landmarks", "examples", "split", "seed", "jobs"}
    )
    matcher: Annotated[str, Reads()]
    """Matcher: a folder or file of `alice train-matcher`, or the name of a shipped one."""
    scans: Annotated[list[Path], Reads()]
    """Scans to search: files and folders, or one store."""
    landmarks: Annotated[Path, Reads()]
    """CSV of the examples: case (a file name without its extension), structure, x_mm, y_mm, z_mm (RAS)."""
    examples: Annotated[Path | None, Reads()] = None
    """Folder or store of the scans that the examples were marked in; by default they are among SCANS."""
    split: str = ""
    """Splits of a store to search, comma separated; by default all."""
    mode: Literal["card", "direct", "robust"] = "card"
    """direct: each point by itself; robust: with a fit over many points; card: as the matcher's card says."""
    jobs: Annotated[int, Field(ge=1)] = 1
    """Processes; the result does not depend on it."""


def run(config: LandmarksConfig) -> dict[str, Any]:
    """Write OUT/landmarks.csv, one row per landmark and scan, and OUT/refused.csv; a later call adds new scans."""
    import hashlib
    from dataclasses import replace

    from alice3d.data.sources.scan_list import ScanList
    from alice3d.data.tables.landmarks import check_convention, read_landmarks, tell_unknown, within_scans
    from alice3d.device import resolve_device
    from alice3d.matching import Matcher
    from alice3d.matching.batch import ROWS, ScanRows

    with outputs.claimed(config, "landmarks") as output:
        config, out = output.config, outputs.shown(output.out)
        device = resolve_device(config.device, config.threads)
        matcher = Matcher.load(config.matcher, device=device)
        if config.mode != "card":
            matcher.mode = config.mode
        scans = ScanList.of(config.scans, config.split, config.unoriented)
        outputs.refuse_sources_inside(output.out, scans.files())
        marked = scans
        if config.examples is not None:
            marked = ScanList.of([config.examples], unoriented=config.unoriented)
        marks = read_landmarks(config.landmarks, set(marked.ids))
        digest = hashlib.sha256(config.landmarks.read_bytes()).hexdigest()
        settings = config.settings(matcher=matcher.checksum, landmarks=digest)
        state = output.check(settings, results=(*RESULTS, ROWS))
        rows = ScanRows(config.out, scans, anew=state == "new")
        if state == "done" and not rows.missing:
            console.say(f"{out}: already done")
            return output.earlier_result
        for warning in scans.warnings:
            console.warn(warning)
        if scans.store is not None and (note := matcher.reading_note(scans.store)):
            console.say(note)
        tell_unknown(config.landmarks, marks, set(marked.ids))
        embedded = _examples(matcher, marked, marks)
        marks = within_scans(config.landmarks, marks, lambda case: embedded[case].scan.grid)
        examples = {id: replace(embedded[id], points_mm=points) for id, points in marks.points_mm.items()}
        check_convention(config.landmarks, marks, lambda case, points: examples[case].scan.in_body(points, margin=1))
        state = "started" if state == "done" else state
        outputs.begin(config.out, "landmarks", settings, state=state, overwrite=config.overwrite)
        _search(config, matcher, rows, examples, str(device))
        result = _write(config.out, rows.ordered())
        if not result["scans"]:
            raise UserError(f"none of {len(result['refused'])} scans can be read; see {out / 'refused.csv'}")
        output.finish(result, results=RESULTS)
    _say(config, result)
    return result


def _examples(matcher: Matcher, scans: ScanList, marks: Landmarks) -> dict[str, Example]:
    """The scans that the examples were marked in."""
    from alice3d.matching.batch import embed_scan
    from alice3d.matching.landmarks import Example

    return {id: Example(embed_scan(scans, id, matcher), points) for id, points in sorted(marks.points_mm.items())}


def _search(
    config: LandmarksConfig, matcher: Matcher, rows: ScanRows, examples: dict[str, Example], device: str
) -> None:
    """Add the rows that are missing; faulty scans get a reason instead of points."""
    from alice3d.matching.batch import OpenMatcher, over_scans
    from alice3d.matching.landmarks import LandmarkSearch

    rows.tidy()
    work = LandmarkSearch(rows.scans, examples, among=config.examples is None)
    opened = OpenMatcher(config.matcher, matcher.mode, device, config.threads or 1)
    with console.progress("Searching", len(rows.scans.ids), len(rows.rows)) as bar:
        for id, found in over_scans(work, rows.missing, matcher, opened, jobs=config.jobs):
            if "reason" in found:
                console.warn(f"{id} is refused: {found['reason']}")
            rows.add(id, found)
            bar.advance(note=id)


def _write(out: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The two tables, and the keys of `--json`."""
    import csv
    import io

    from alice3d.matching.landmarks import SAME_ANATOMY

    table, refused = io.StringIO(), io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    reasons = csv.writer(refused, lineterminator="\n")
    reasons.writerow(("case", "reason"))
    by_structure: dict[str, dict[str, int]] = {}
    for row in rows:
        if "reason" in row:
            reasons.writerow((row["case"], row["reason"]))
            continue
        for structure, x, y, z, similarity, cycle, accepted in row["points"]:
            numbers = (*(f"{mm:.2f}" for mm in (x, y, z)), f"{similarity:.4f}", f"{cycle:.2f}", accepted)
            writer.writerow((row["case"], structure, *numbers))
            counts = by_structure.setdefault(structure, {"found": 0, "accepted": 0})
            counts["found"] += 1
            counts["accepted"] += accepted
    files.write_text(out / "landmarks.csv", table.getvalue())
    files.write_text(out / "refused.csv", refused.getvalue())
    good = [row for row in rows if "reason" not in row]
    strange = [row["case"] for row in good if row["agreement"] is not None and row["agreement"] < SAME_ANATOMY]
    return {
        "scans": len(good),
        "refused": [{"case": row["case"], "reason": row["reason"]} for row in rows if "reason" in row],
        "points": sum(counts["found"] for counts in by_structure.values()),
        "accepted": sum(counts["accepted"] for counts in by_structure.values()),
        "by_structure": dict(sorted(by_structure.items())),
        "other_anatomy": strange,
        "landmarks": str(outputs.shown(out) / "landmarks.csv"),
    }


def _say(config: LandmarksConfig, result: dict[str, Any]) -> None:
    """Print the result."""
    for name, counts in result["by_structure"].items():
        console.say(f"{name[:30]:30} {counts['accepted']:6} of {counts['found']} accepted")
    strange = result["other_anatomy"]
    if strange:
        some = ", ".join(strange[:3]) + (", ..." if len(strange) > 3 else "")
        console.warn(f"{len(strange)} scans hardly show the examples' anatomy: nothing in them is accepted ({some})")
    tail = f"; {len(result['refused'])} scans refused, see refused.csv" if result["refused"] else ""
    console.say(
        f"{result['points']} landmarks in {result['scans']} scans written to {result['landmarks']}{tail}. "
        "Next: check those that are not accepted, for example by alice view"
    )
