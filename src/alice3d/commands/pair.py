"""Match points between patients, check them, and write the table that training draws matched crops from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d import console, outputs
from alice3d.config import ComputeConfig, OutputConfig
from alice3d.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alice3d.data.store import Case, Store
    from alice3d.matching import Matcher
    from alice3d.matching.guards import GuardResult
    from alice3d.matching.pairing import Pairing


class PairConfig(OutputConfig, ComputeConfig):
    """`alice pair STORE MATCHER OUT`."""

    positional: ClassVar[tuple[str, ...]] = ("store", "matcher", "out")
    uncounted: ClassVar[frozenset[str]] = frozenset({"store", "matcher", "jobs", "csv", "keep_embeddings"})
    store: Path
    """Store of scans, made by `alice prepare`."""
    matcher: str
    """Matcher: a folder or file of `alice train-matcher`, or the name of a shipped one."""
    split: str = "auto"
    """Splits to pair, comma separated; auto: pretrain and train where the store has them, else all."""
    scan_pairs: Annotated[int, Field(ge=0)] = 0
    """Pairs of scans; 0 = as many as `pairs_per_case` gives."""
    pairs_per_case: Annotated[int, Field(ge=1)] = 2
    """Other scans that each scan is matched with as query."""
    points: Annotated[int, Field(ge=50, le=20000)] = 500
    """Points matched a pair of scans, on a lattice over the query's body."""
    embeddings: Literal["fp16", "bf16", "fp32"] = "fp16"
    """Precision of the embeddings on disk; fp32 takes twice the space."""
    keep_embeddings: bool = False
    """Leave the embeddings in OUT/embeddings instead of removing them at the end."""
    csv: bool = False
    """Also write the table as pairs.csv.gz."""
    jobs: Annotated[int, Field(ge=1)] = 1
    """Processes; the result does not depend on it."""


def run(config: PairConfig) -> dict[str, Any]:
    """Guards, embeddings, matches, table, quality report."""
    import shutil

    from alice3d.data.pairs import PairsTable
    from alice3d.data.pairs.quality import quality
    from alice3d.data.pairs.table import write_table
    from alice3d.data.store import Store
    from alice3d.data.store.splits import choose_cases
    from alice3d.engine.device import resolve_device
    from alice3d.matching import Matcher
    from alice3d.matching.pairing import Pairing, draw_scan_pairs
    from alice3d.report.matching_page import write_quality

    device = resolve_device(config.device, config.threads)
    store = Store.open(config.store)
    matcher = Matcher.load(config.matcher, device=device)
    cases = choose_cases(store, config.split)
    if len(cases) < 2:
        raise UserError(
            f"{config.store}: {len(cases)} scan in split {config.split!r}; two patients at least are needed"
        )
    trust = {"trust": matcher.trust.checksum} if matcher.trust.models else {}
    settings = config.settings(store=store.checksum, matcher=matcher.checksum, **trust)
    state = outputs.check(config.out, "pairs table", settings, overwrite=config.overwrite)
    if state == "done":
        console.say(f"{config.out}: already done")
        return outputs.earlier_result(config.out)
    note = matcher.reading_note(store)
    if note:
        console.say(note)
    guards = _guards(matcher, store, cases)
    count = config.scan_pairs or config.pairs_per_case * len(cases)
    pairs = draw_scan_pairs([case.id for case in cases], count, config.seed)
    outputs.begin(config.out, "pairs table", settings, state=state, overwrite=config.overwrite)
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
    _match(pairing, pairs, config.jobs)
    parts = [pairing.part(n) for n in range(len(pairs))]
    card = {"store": store.checksum, "matcher": matcher.checksum, **trust, "settings": settings, "guards": vars(guards)}
    write_table(config.out, pairs, parts, card)
    table = PairsTable.open(config.out)
    report = quality(table)
    write_quality(config.out, table, report)
    if config.csv:
        table.write_csv(config.out / "pairs.csv.gz")
    if not report["usable"]:
        console.warn("no scan pair has enough accepted points for a map; train the matcher longer")
    result = {
        "pairs": report["rows"],
        "accepted": report["accepted"],
        "cycle_mm_median": report["cycle_mm_median"],
        "self_check_mm": guards.self_mm,
        "mirror_check": guards.mirror_passed,
        "mirror_share": guards.mirror_share,
        "scan_pairs": len(pairs),
        "usable": report["usable"],
    }
    outputs.finish(config.out, result)
    shutil.rmtree(pairing.parts, ignore_errors=True)
    if not config.keep_embeddings:
        shutil.rmtree(pairing.cache, ignore_errors=True)
    share = report["accepted"] / max(report["rows"], 1)
    console.say(
        f"{report['rows']} matched points of {len(pairs)} scan pairs, {share:.0%} accepted; "
        f"{report['usable']} pairs usable. Table written to {config.out}. "
        f"Next: alice pretrain {config.store} RUN --pairs {config.out}"
    )
    return result


def _guards(matcher: Matcher, store: Store, cases: list[Case]) -> GuardResult:
    """Run the guards on three scans and stop where one fails."""
    from alice3d.matching.guards import run_guards

    chosen = [cases[n * (len(cases) - 1) // 2] for n in range(3)] if len(cases) > 2 else cases
    guards = run_guards(matcher, store, chosen)
    guards.require()
    console.say(
        f"Guards passed: a scan matched with itself is {guards.self_mm:.1f} mm off; in its mirror image "
        f"{guards.mirror_share:.0%} of the lateral points keep their side."
    )
    return guards


def _match(pairing: Pairing, pairs: Sequence[tuple[str, str]], jobs: int) -> None:
    """Do the work with two bars."""
    from alice3d.matching.pairing import match_pairs

    scans = len({name for pair in pairs for name in pair})
    with console.progress("Embedding scans", scans) as first, console.progress("Matching pairs", len(pairs)) as second:
        match_pairs(pairing, pairs, jobs=jobs, embedded=first.advance, matched=second.advance)
