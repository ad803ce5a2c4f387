"""Measure a matcher on landmarks: error in mm, cycle error, two baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from alice3d import console
from alice3d.config import ComputeConfig
from alice3d.errors import UserError

if TYPE_CHECKING:
    from alice3d.data.landmarks import Landmarks
    from alice3d.data.store import Store
    from alice3d.matching.embedded_cases import EmbeddedCases


class EvaluateMatcherConfig(ComputeConfig):
    """`alice evaluate-matcher MATCHER STORE --landmarks CSV`."""

    positional: ClassVar[tuple[str, ...]] = ("matcher", "store")
    matcher: str
    """Matcher: a folder or file of `alice train-matcher`, or the name of a shipped one."""
    store: Path
    """Store of scans, made by `alice prepare`."""
    landmarks: Path
    """CSV with the columns case, structure, x_mm, y_mm, z_mm (RAS)."""
    split: str = ""
    """Splits to evaluate, comma separated; by default every stored case with landmarks."""
    mode: Annotated[str, Field(pattern="^(card|direct|robust)$")] = "card"
    """direct: each point by itself; robust: with a fit over many points; card: as the matcher's card says."""
    max_pairs: Annotated[int, Field(ge=1)] = 2500
    """Ordered pairs of scans; of more a seeded draw is evaluated."""
    baselines: bool = True
    """Also match by a network of the same architecture with random weights."""
    cache: Path | None = None
    """Folder that keeps embeddings for later calls; by default they are thrown away."""
    out: Path | None = None
    """Write the result as JSON to this file, too."""


def run(config: EvaluateMatcherConfig) -> dict[str, Any]:
    """Evaluate; returns the keys of `--json`."""
    import json
    import tempfile

    from alice3d.data.landmarks import check_convention, read_landmarks
    from alice3d.data.store import Store
    from alice3d.engine.device import resolve_device
    from alice3d.evaluation.matching import landmark_errors, ordered_pairs, summarise
    from alice3d.matching import Matcher
    from alice3d.matching.cache import EmbeddingCache
    from alice3d.matching.embedded_cases import EmbeddedCases
    from alice3d.outputs import write_text

    device = resolve_device(config.device, config.threads)
    store = Store.open(config.store)
    landmarks = read_landmarks(config.landmarks, _chosen(store, config.split))
    pairs = ordered_pairs(landmarks, limit=config.max_pairs, seed=config.seed)
    if not pairs:
        raise UserError(f"{config.landmarks}: no two cases of the store share a structure; at least two are needed")
    with tempfile.TemporaryDirectory() as scratch:
        cache = EmbeddingCache(config.cache or Path(scratch), half=config.cache is None)
        matcher = Matcher.load(config.matcher, device=device, cache=cache)
        if config.mode != "card":
            matcher.mode = config.mode  # type: ignore[assignment]
        note = matcher.spacing_note(store.spec.spacing_mm)
        if note:
            console.say(note)
        scans = EmbeddedCases(matcher, store)
        random = matcher.untrained(config.seed)
        random.cache = EmbeddingCache(Path(scratch))
        untrained = EmbeddedCases(random, store) if config.baselines else None
        _embed(landmarks, scans, untrained)
        check_convention(config.landmarks, landmarks, lambda case, points: scans[case].in_body(points, margin=0))
        with console.progress("Matching", len(pairs)) as bar:
            errors = landmark_errors(scans, untrained, landmarks, pairs, done=bar.advance)
    result = summarise(errors, skipped_cases=len(landmarks.skipped))
    result["mode"] = matcher.mode
    if config.out is not None:
        write_text(config.out, json.dumps(result, indent=1) + "\n")
    say_table(result)
    return result


def _chosen(store: Store, split: str) -> set[str]:
    """Ids of the cases of the named splits; of all without a name."""
    names = [name.strip() for name in split.split(",") if name.strip()]
    for name in names:
        if name not in store.splits:
            raise UserError(f"split: the store has no split {name!r}; it has {', '.join(store.splits) or 'none'}")
    return {case.id for case in store.cases() if not names or case.split in names}


def _embed(landmarks: Landmarks, scans: EmbeddedCases, untrained: EmbeddedCases | None) -> None:
    """Embed every case once, with a bar."""
    cases = sorted(landmarks.points_mm)
    with console.progress("Embedding scans", len(cases)) as bar:
        for case in cases:
            scans[case]
            if untrained is not None:
                untrained[case]
            bar.advance()


def say_table(result: dict[str, Any]) -> None:
    """The result for a person: a line a structure, then all."""
    console.say(
        f"{'':16}{'points':>8}{'mean':>8}{'median':>8}{'<=5 mm':>8}{'<=10 mm':>8}{'box mean':>10}{'untrained':>11}"
    )
    for name, row in [*result["by_structure"].items(), ("all", result)]:
        untrained = row["baseline_untrained_mean_mm"]
        console.say(
            f"{name[:15]:16}{row['points']:8}{row['mean_mm']:8.1f}{row['median_mm']:8.1f}{row['within_5mm']:8.0%}"
            f"{row['within_10mm']:8.0%}{row['baseline_box_mean_mm']:10.1f}"
            + (f"{untrained:11.1f}" if untrained is not None else f"{'-':>11}")
        )
    kept = result["accepted_within_10mm"]
    kept_text = f", of which {kept:.0%} lie within 10 mm" if kept is not None else ""
    share = f"{result['accepted_share']:.0%} accepted{kept_text}"
    console.say(f"{result['pairs']} ordered pairs, {result['mode']} matching; {share}.")
