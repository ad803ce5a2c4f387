"""Matches many scan pairs into a pairs table, with several processes, resuming where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alice3d import console, outputs
from alice3d.data.pairs import PairsTable
from alice3d.data.pairs.quality import quality, write_quality
from alice3d.data.pairs.table import write_table
from alice3d.data.store import Case, Store
from alice3d.data.store.pins import pin, pinned_cases
from alice3d.data.store.splits import choose_cases
from alice3d.device import resolve_device
from alice3d.errors import UserError
from alice3d.matching.matcher import Matcher
from alice3d.matching.pair_work import Pairing, match_pairs
from alice3d.matching.sanity_checks import SanityResult, run_sanity_checks
from alice3d.matching.settings import PairConfig
from alice3d.memory import NO_MEMORY

RESULTS = ("pairs.npz", "pairs.json")


def draw_scan_pairs(cases: Sequence[str], count: int, seed: int) -> list[tuple[str, str]]:
    """Sample `count` (query, key) pairs of different cases, no two of the same scans, every case equally often if
    possible.

    Rounds of a shuffled circle: in each round every case is query once and key once. Sorted by query, so that a
    query's embedding is read once.
    """
    names = sorted(cases)
    most = len(names) * (len(names) - 1) // 2
    rng = np.random.default_rng(seed)
    drawn: dict[frozenset[str], tuple[str, str]] = {}
    while len(drawn) < min(count, most) and len(drawn) < 0.5 * most:
        order = rng.permutation(len(names))
        for a, b in zip(order, np.roll(order, 1), strict=True):
            drawn.setdefault(frozenset((names[a], names[b])), (names[a], names[b]))
    chosen = list(drawn.values())[:count]
    if len(chosen) < min(count, most):  # too many repeated pairs: sample from the remaining ones
        left = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :] if frozenset((a, b)) not in drawn]
        chosen += [left[n] for n in rng.permutation(len(left))[: min(count, most) - len(chosen)]]
    return sorted(chosen)


def make_pairs(config: PairConfig, *, draw: Callable[[Path, dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Sanity checks, embeddings, matches, table, quality report; resumes where an earlier call stopped.

    Args:
        config: of `alice pair`.
        draw: draws the quality report into the folder.

    Returns:
        the keys of `--json`.

    Raises:
        UserError: an input is wrong, or a sanity check fails.
        WorkFailed: a process died twice at the same scan or pair.
    """
    with outputs.claimed(config, "pairs table") as output:
        return _made_pairs(output, draw)


def _made_pairs(
    output: outputs.Output[PairConfig], draw: Callable[[Path, dict[str, Any]], None] | None
) -> dict[str, Any]:
    """`make_pairs` into a folder that is claimed."""
    config, out = output.config, outputs.shown(output.out)
    device = resolve_device(config.device, config.threads)
    store = Store.open(config.store)
    matcher = Matcher.load(config.matcher, device=device)
    trust = {"trust": matcher.confidence.checksum} if matcher.confidence.models else {}
    known = {"matcher": matcher.checksum, **trust}
    cases = pinned_cases(store, config.out, "pairs table", config.settings(**known), overwrite=config.overwrite)
    cases = cases or choose_cases(store, config.split)
    if len(cases) < 2:
        raise UserError(
            f"{config.store}: {len(cases)} scan in split {config.split!r}; at least two patients are needed"
        )
    checksum = store.checksum_of(cases)
    settings = config.settings(store=checksum, **known)
    state = output.check(settings, former={"store": (store.checksum, checksum)}, results=RESULTS)
    if state == "done":
        console.say(f"{out}: already done")
        return output.earlier_result
    note = matcher.reading_note(store)
    if note:
        console.say(note)
    guards = check_sanity(matcher, store, cases)
    count = config.scan_pairs or config.pairs_per_case * len(cases)
    pairs = draw_scan_pairs([case.id for case in cases], count, config.seed)
    more = {"pinned": pin(store, cases)}
    outputs.begin(config.out, "pairs table", settings, state=state, overwrite=config.overwrite, more=more)
    pairing = Pairing(
        store=config.store,
        matcher=config.matcher,
        device=str(device),
        threads=config.threads or (1 if config.jobs > 1 else 0),
        cache=config.out / "embeddings",
        precision=config.embeddings,
        parts=config.out / "parts",
        points=config.points,
    )
    refused = _match_all(pairing, pairs, config.jobs)
    parts = [pairing.part(n) for n, pair in enumerate(pairs) if not refused.intersection(pair)]
    pairs = [pair for pair in pairs if not refused.intersection(pair)]
    if not pairs:
        raise UserError(f"no two scans could be matched; {min(refused)}: {NO_MEMORY}")
    card = {"store": checksum, "matcher": matcher.checksum, **trust, "settings": settings, "guards": vars(guards)}
    write_table(config.out, pairs, parts, card)
    report = _report_quality(config, draw)
    result = _result(report, guards, len(pairs))
    output.finish(result, results=RESULTS)
    for scratch in (pairing.parts, *(() if config.keep_embeddings else (pairing.cache,))):
        shutil.rmtree(output.out / scratch.name, ignore_errors=True)
    share = report["accepted"] / max(report["rows"], 1)
    console.say(
        f"{report['rows']} matched points of {len(pairs)} scan pairs, {share:.0%} accepted; "
        f"{report['usable']} pairs usable. Table written to {out}. "
        f"Next: alice pretrain {config.store} RUN --pairs {out}"
    )
    return result


def _report_quality(config: PairConfig, draw: Callable[[Path, dict[str, Any]], None] | None) -> dict[str, Any]:
    """Write the quality of the finished table, and the table as CSV where asked; says so if no pair is usable."""
    table = PairsTable.open(config.out)
    report = quality(table)
    write_quality(config.out, report)
    if draw is not None:
        draw(config.out, report)
    if config.csv:
        table.write_csv(config.out / "pairs.csv.gz")
    if not report["usable"]:
        console.warn("no scan pair has enough accepted points for a map; train the matcher longer")
    return report


def check_sanity(matcher: Matcher, store: Store, cases: list[Case]) -> SanityResult:
    """Run the sanity checks on three scans and stop where one fails."""
    chosen = [cases[n * (len(cases) - 1) // 2] for n in range(3)] if len(cases) > 2 else cases
    guards = run_sanity_checks(matcher, store, chosen)
    guards.require()
    console.say(
        f"Sanity checks passed: a scan matched with itself is {guards.self_mm:.1f} mm off; in its mirror image "
        f"{guards.mirror_share:.0%} of the lateral points keep their side."
    )
    return guards


def _match_all(pairing: Pairing, pairs: Sequence[tuple[str, str]], jobs: int) -> set[str]:
    """Do the work with two progress bars; the scans that are refused."""
    scans = len({name for pair in pairs for name in pair})
    with console.progress("Embedding scans", scans) as first, console.progress("Matching pairs", len(pairs)) as second:
        return match_pairs(pairing, pairs, jobs=jobs, embedded=first.advance, matched=second.advance)


def _result(report: dict[str, Any], guards: SanityResult, scan_pairs: int) -> dict[str, Any]:
    """The keys of `--json`."""
    return {
        "pairs": report["rows"],
        "accepted": report["accepted"],
        "cycle_mm_median": report["cycle_mm_median"],
        "self_check_mm": guards.self_mm,
        "mirror_check": guards.mirror_passed,
        "mirror_share": guards.mirror_share,
        "scan_pairs": scan_pairs,
        "usable": report["usable"],
    }
