"""Measure a matcher on landmarks: error in mm, cycle error, two baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d import console
from alice3d.config import ComputeConfig, Reads, Writes
from alice3d.errors import UserError
from alice3d.version import PROGRAM


class EvaluateMatcherConfig(ComputeConfig):
    """`alice evaluate-matcher MATCHER STORE --landmarks CSV`."""

    positional: ClassVar[tuple[str, ...]] = ("matcher", "store")
    matcher: Annotated[str, Reads()]
    """Matcher: a folder or file of `alice train-matcher`, or the name of a shipped one."""
    store: Annotated[Path, Reads()]
    """Store of scans, made by `alice prepare`."""
    landmarks: Annotated[Path, Reads()]
    """CSV with the columns case, structure, x_mm, y_mm, z_mm (RAS)."""
    split: str = ""
    """Splits to evaluate, comma separated; by default every stored case with landmarks."""
    mode: Literal["card", "direct", "robust"] = "card"
    """direct: each point by itself; robust: with a fit over many points; card: as the matcher's card says."""
    max_pairs: Annotated[int, Field(ge=1)] = 2500
    """Maximum number of ordered pairs of scans; of more, a seeded random sample is evaluated."""
    baselines: bool = True
    """Also match by a network of the same architecture with random weights."""
    cuts: Annotated[int, Field(ge=0)] = 0
    """Times each scan is cropped so that one of its landmarks lies outside, to measure whether its match is refused; 0
    = not."""
    plot: Annotated[Path | None, Writes(file=True)] = None
    """PNG to write: predicted against observed errors, of a calibrated matcher."""
    cache: Annotated[Path | None, Writes()] = None
    """Folder in which embeddings are cached for later calls; by default they are not kept."""
    embeddings: Literal["fp16", "bf16", "fp32"] = "fp16"
    """Precision of the embeddings on disk; fp32 takes twice the space."""
    allow_seen: bool = False
    """Evaluate cases of a test split although the matcher was trained on them."""
    out: Annotated[Path | None, Writes(file=True)] = None
    """Write the result as JSON to this file, too."""


def run(config: EvaluateMatcherConfig) -> dict[str, Any]:
    """Evaluate; returns the keys of `--json`."""
    from alice3d.data.store import Store
    from alice3d.data.tables.landmarks import landmarks_of
    from alice3d.device import resolve_device
    from alice3d.evaluation.landmarks import chosen_cases, ordered_pairs
    from alice3d.evaluation.matcher import evaluate_matcher
    from alice3d.files import json_text, scratch_folder, write_text
    from alice3d.matching import Matcher
    from alice3d.matching.disk_cache import EmbeddingCache
    from alice3d.weights import provenance

    device = resolve_device(config.device, config.threads)
    store = Store.open(config.store)
    landmarks = landmarks_of(config.landmarks, store, chosen_cases(store, config.split))
    pairs = ordered_pairs(landmarks, limit=config.max_pairs, seed=config.seed)
    if not pairs:
        raise UserError(f"{config.landmarks}: no two cases of the store share a structure; at least two are needed")
    with scratch_folder() as scratch:
        cache = EmbeddingCache(config.cache or scratch, config.embeddings)
        matcher = Matcher.load(config.matcher, device=device, cache=cache)
        marked = [store.case(name) for name in sorted(landmarks.points_mm)]
        provenance.guard_by_split(matcher.card, marked, force=config.allow_seen, among=store.cases())
        if config.mode != "card":
            matcher.mode = config.mode
        note = matcher.reading_note(store)
        if note:
            console.say(note)
        result = evaluate_matcher(
            matcher,
            store,
            landmarks,
            pairs,
            table=config.landmarks,
            scratch=scratch,
            baselines=config.baselines,
            cuts=config.cuts,
            seed=config.seed,
        )
    if config.plot is not None:
        _draw(config.plot, result["trust"])
    if config.out is not None:
        write_text(config.out, json_text({"made_by": PROGRAM, **result}) + "\n")
    say_table(result)
    return result


def _draw(path: Path, trust: dict[str, Any]) -> None:
    """The reliability plot."""
    from alice3d.files import write_bytes
    from alice3d.report.matching_page import draw_reliability

    if trust["reliability"] is None:
        console.warn("--plot: the matcher predicts no errors; run alice calibrate-matcher first")
        return
    try:
        write_bytes(path, draw_reliability(trust))
    except OSError as error:
        raise UserError(f"--plot {path}: cannot be written ({error.strerror})") from None


def _percent(result: dict[str, Any], name: str) -> str:
    """A fraction with its interval, in per cent."""
    from alice3d.metrics.intervals import in_words

    ends = {end: None if value is None else 100 * value for end, value in result["intervals"][name].items()}
    return in_words({**ends, "mean": 100 * result[name]}, 0) + " %"


def say_table(result: dict[str, Any]) -> None:
    """Print the result: one line per structure, then all."""
    from alice3d.metrics.intervals import in_words

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
    mean, median = (
        in_words({**result["intervals"][name], "mean": result[name]}, 1) for name in ("mean_mm", "median_mm")
    )
    console.say(
        f"With 95 % intervals over patients: mean {mean} mm, median {median} mm, within 10 mm "
        f"{_percent(result, 'within_10mm')}."
    )
    known = result["accepted_within_10mm"] is not None
    kept_text = f", of which {_percent(result, 'accepted_within_10mm')} lie within 10 mm" if known else ""
    share = f"{_percent(result, 'accepted_share')} accepted{kept_text}"
    console.say(f"{result['pairs']} ordered pairs, {result['mode']} matching; {share}.")
    trust = result["trust"]
    if trust["foretold_auroc_10mm"] is not None:
        gross = trust["foretold_auroc_20mm"]
        console.say(
            f"Predicted errors: {trust['far_10mm']:.0%} above 10 mm (observed {trust['true_far_10mm']:.0%}), AUROC "
            f"{trust['foretold_auroc_10mm']:.2f}" + ("." if gross is None else f"; above 20 mm {gross:.2f}.")
        )
    view = result.get("field_of_view")
    if view and view["gone_refused"] is not None and view["good_kept"] is not None:
        console.say(
            f"Outside the key scan: {view['gone_refused']:.0%} of {view['gone']} points refused; "
            f"{view['good_kept']:.0%} of the matches within 10 mm kept."
        )
