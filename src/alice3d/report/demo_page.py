"""The report of the whole pipeline, from scans to a segmenter: steps, results, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from alice3d.data.pairs import PairsTable
from alice3d.data.store import Store
from alice3d.engine.log import read_log
from alice3d.files import write_text
from alice3d.metrics.intervals import in_words
from alice3d.report.curves import Score, loss_curves, score_chart, svg_of
from alice3d.report.page import Html, Section, code_block, page, paragraph, svg_figure, table, text
from alice3d.report.pictures import Landmarks, choose_matches, labels_figure, legend, match_figure, scans_figure
from alice3d.version import __version__

PARTS = {
    "fine": "fine embedding",
    "coarse": "coarse embedding",
    "joint": "both together",
    "class": "between volumes (λ_cls)",
    "patch": "within a volume (λ_patch)",
    "reconstruction": "reconstruction (λ_rec)",
    "dense": "dense, between volumes (λ_dense)",
}
"""Key of the log to its name in the report."""


@dataclass(frozen=True)
class Step:
    """One command of the pipeline: its name, what it does in a line, how to repeat it, and its seconds over all
    calls."""

    name: str
    what: str
    command: str
    seconds: float


@dataclass(frozen=True)
class DemoReport:
    """Content of the report; None or empty parts have not been done and are left out.

    Attributes:
        title, lead: of the page.
        steps: in order.
        store: folder of the store.
        prepared: result of `prepare`.
        matcher: result of `evaluate-matcher`.
        pairs: folder of the pairs table.
        paired: result of `pair`.
        logs: heading to folder of a training run.
        scores: model to result of `evaluate`; the first is the reference for the others.
        landmarks: true positions, for the errors of matches.
        predicted: title to label values on the stored grid of `predicted_case`; the reference comes first.
        predicted_case: id.
        machine: description of the machine.
        closing: next commands, lines of a terminal.
    """

    title: str
    lead: str
    steps: Sequence[Step]
    store: Path
    prepared: Mapping[str, Any]
    matcher: Mapping[str, Any] | None = None
    pairs: Path | None = None
    paired: Mapping[str, Any] | None = None
    logs: Mapping[str, Path] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    landmarks: Landmarks = field(default_factory=dict)
    predicted: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    predicted_case: str = ""
    machine: str = ""
    closing: Sequence[str] = ()


def write_report(path: Path, report: DemoReport) -> None:
    """Write the page, atomically."""
    store = Store.open(report.store)
    sections = [
        steps_section(report),
        scans_section(report, store),
        matching_section(report, store),
        losses_section(report),
        scores_section(report),
        prediction_section(report, store),
        closing_section(report),
    ]
    foot = f"Written by alice3d {__version__}. This file holds all it shows; nothing was sent anywhere."
    write_text(path, page(report.title, [s for s in sections if s is not None], lead=report.lead, foot=foot))


def clock(seconds: float) -> str:
    """`0:07`, `12:30`: minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"


def steps_section(report: DemoReport) -> Section:
    """Each step with its time, and the commands that repeat it."""
    rows: list[list[Any]] = [[step.name, step.what, clock(step.seconds)] for step in report.steps]
    rows.append(["in all", "", clock(sum(step.seconds for step in report.steps))])
    parts = [
        table(["Step", "What it does", "min:s"], rows, caption=report.machine),
        paragraph("Each step is a command of its own, and can be repeated or changed:"),
        code_block([step.command for step in report.steps if step.command]),
    ]
    return Section("steps", "What was done", parts)


def scans_section(report: DemoReport, store: Store) -> Section:
    """Accepted and refused scans with reasons, and pictures of some."""
    refused = report.prepared["refused"]
    spacing = " × ".join(f"{mm:g}" for mm in store.spec.spacing_mm)
    said = (
        f"{report.prepared['taken']} scans were accepted, {refused} refused. They are stored at {spacing} mm, axes RAS."
    )
    parts = [paragraph(said)]
    if refused:
        parts.append(table(["Reason", "Scans"], sorted(report.prepared["reasons"].items(), key=lambda item: -item[1])))
    counts: dict[str, list[int]] = {}
    for case in store.cases():
        entry = counts.setdefault(case.split or "in no split", [0, 0])
        entry[0] += 1
        entry[1] += case.labelled
    parts.append(table(["Split", "Scans", "with labels"], [[name, *entry] for name, entry in sorted(counts.items())]))
    return Section("scans", "The scans", [*parts, scans_figure(store)])


def matching_section(report: DemoReport, store: Store) -> Section | None:
    """Matched points side by side, and statistics of the table and the landmarks."""
    if report.pairs is None or report.paired is None:
        return None
    pairs = PairsTable.open(report.pairs)
    parts = [
        paragraph(
            "The matcher was trained on single scans only, then used to match points of one patient in another; "
            "rows with a large cycle error, or that disagree with their neighbours, are not accepted."
        )
    ]
    parts.append(table(["Pairs table", ""], pairs_rows(report.paired, pairs.card)))
    if report.matcher is not None:
        caption = (
            f"Landmark error over {report.matcher['pairs']} scan pairs, {report.matcher['points']} points. Baselines: "
            "the same relative position in the body’s bounding box, and the same network untrained."
        )
        parts.append(
            table(["Landmarks", "mean mm", "median mm", "within 10 mm"], landmark_rows(report.matcher), caption=caption)
        )
    matches = choose_matches(store, pairs, report.landmarks)
    if matches:
        parts.append(paragraph("Points chosen to lie far apart, not by the quality of the match:", kind="note"))
        parts += [match_figure(store, match) for match in matches]
    return Section("matching", "The same anatomy in two patients", parts)


def pairs_rows(paired: Mapping[str, Any], card: Mapping[str, Any]) -> list[list[Any]]:
    """Content of the pairs table, and its two sanity checks."""
    share = card["accepted"] / max(card["rows"], 1)
    rows: list[list[Any]] = [["scan pairs", card["scan_pairs"]], ["of them usable", card["usable"]]]
    rows += [["matched points", f"{card['rows']:,}"], ["of them accepted", f"{card['accepted']:,} ({share:.0%})"]]
    rows.append(["median cycle error", f"{paired['cycle_mm_median']:.1f} mm"])
    rows.append(["a scan matched with itself is off by", f"{paired['self_check_mm']:.1f} mm"])
    mirror = paired["mirror_check"]
    shown = ("passed" if mirror else "failed") if isinstance(mirror, bool) else mirror
    return [*rows, ["its mirror image swaps left and right", shown]]


def landmark_rows(scores: Mapping[str, Any]) -> list[list[Any]]:
    """The matcher and its baselines."""

    def shown(key: str, form: str) -> str | None:
        return format(scores[key], form) if scores.get(key) is not None else None

    return [
        ["this matcher", shown("mean_mm", ".1f"), shown("median_mm", ".1f"), shown("within_10mm", ".0%")],
        [
            "same position in the box",
            shown("baseline_box_mean_mm", ".1f"),
            shown("baseline_box_median_mm", ".1f"),
            None,
        ],
        ["untrained network", shown("baseline_untrained_mean_mm", ".1f"), None, None],
    ]


def losses_section(report: DemoReport) -> Section | None:
    """The curves of each training run, with all terms of the loss."""
    parts = []
    for heading, folder in report.logs.items():
        log = read_log(folder / "log.jsonl")
        if not log:
            continue
        svg = svg_of(loss_curves(log, labels=PARTS), name=heading, alt=f"{heading}: loss and its parts over the steps")
        parts += [Html(f"<h3>{text(heading)}</h3>"), svg_figure(svg, caption=f"{len(log)} steps; faint: each step.")]
    return Section("losses", "Learning", parts) if parts else None


def _score(entry: Mapping[str, Any]) -> Score:
    return Score(entry["mean"], entry.get("low"), entry.get("high"))


def scores_section(report: DemoReport) -> Section | None:
    """Dice of each model, over all structures and for each."""
    if not report.scores:
        return None
    groups: dict[str, dict[str, Score]] = {"all structures": {}}
    for model, result in report.scores.items():
        groups["all structures"][model] = _score(result["dice"])
        for name, entry in result["by_structure"].items():
            if entry["cases"]:
                groups.setdefault(name.replace("_", " "), {})[model] = _score(entry["dice"])
    cases = next(iter(report.scores.values()))["cases"]
    said = verdict(report.scores)
    chart = svg_of(score_chart(groups), name="dice", alt=f"Dice of {', '.join(report.scores)}, by structure. {said}")
    rows = [
        [model, *(interval(result[key], digits) for key, digits in (("dice", 3), ("nsd", 3), ("hd95_mm", 1)))]
        for model, result in report.scores.items()
    ]
    caption = f"Mean over {cases} test scans with 95 % intervals. NSD: surfaces within the tolerance. HD95 in mm."
    parts = [
        paragraph(said),
        table(["Model", "Dice", "NSD", "HD95"], rows, caption=caption),
        svg_figure(chart, caption="Dice on the test scans; bars are 95 % intervals over scans."),
    ]
    return Section("scores", "Segmentation from few labels", parts)


def interval(entry: Mapping[str, Any], digits: int) -> str:
    """`0.71 (0.66–0.75)`."""
    return in_words(entry, digits).replace(" to ", "–")


def verdict(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence with the ranking, and one on its reliability."""
    ordered = sorted(scores.items(), key=lambda item: -item[1]["dice"]["mean"])
    if len(ordered) < 2:
        return f"Mean Dice {ordered[0][1]['dice']['mean']:.3f}."
    said = ", ".join(f"{name} {result['dice']['mean']:.3f}" for name, result in ordered)
    cases = ordered[0][1]["cases"]
    return (
        f"Mean Dice, best first: {said}. One random subset of labels, one seed, {cases} test scans: small differences "
        "are not meaningful; repeat with several subsets before you conclude."
    )


def prediction_section(report: DemoReport, store: Store) -> Section | None:
    """One predicted scan as an overlay on the image, next to its reference."""
    if not report.predicted:
        return None
    case = store.case(report.predicted_case)
    caption = f"{case.id}, a test scan whose labels were not used in training."
    values = {int(value) for labels in report.predicted.values() for value in set(labels.ravel().tolist()) - {0}}
    names = {value: name for value, name in store.label_names.items() if value in values}
    parts = [labels_figure(store, case, report.predicted, caption=caption), legend(names)]
    return Section("prediction", "A prediction", parts)


def closing_section(report: DemoReport) -> Section | None:
    """Next commands."""
    if not report.closing:
        return None
    return Section("next", "What next", [code_block(report.closing)])
