"""One page of a training run: its curves over those of a shipped run, and how to read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from alice3d import distributed
from alice3d.engine.log import read_log, speed
from alice3d.files import write_text
from alice3d.pretraining.collapse import MIN_DEVIATION, MIN_INFORMATION, MIN_RANK
from alice3d.report.curves import expected_of, loss_curves, svg_of
from alice3d.report.page import Html, Section, page, svg_figure, table

NAME = "curves.html"
MEANINGS: dict[str, str] = {
    "feature_rank": f"effective rank of the tokens of a few held-out crops; below {MIN_RANK:g}: collapsed",
    "feature_deviation": f"deviation of those tokens relative to their norm; below {MIN_DEVIATION:g}: collapsed",
    "view_agreement": "cosine of tokens at the same position in both crops; 0: no more similar than any two positions",
    "average_distance": "distance between the EMA weights and the weights, relative to their norm",
    "patch_marginal_entropy": f"minus patch_target_entropy: information in the assignment; below {MIN_INFORMATION:g} "
    "nats throughout: collapsed",
    "class_marginal_entropy": "minus class_target_entropy: the same for crops",
    "token_deviation": "standard deviation of the visible tokens over the batch",
    "probe_knn_accuracy": "k-NN accuracy of labelled voxels, with neighbours from other scans",
    "probe_landmark_mm": "mean error of landmark retrieval with the frozen features",
}
"""Key of the log to how to read it."""


@contextlib.contextmanager
def drawn_at_the_end(out: Path) -> Iterator[None]:
    """Write the page when training ends, also when it stops early."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a full disk has been reported already
            if distributed.is_chief():
                write_run_page(out)


def write_run_page(out: Path) -> Path | None:
    """Write OUT/curves.html from `log.jsonl` and `config.yaml`; None, and no page, where they are empty."""
    log, settings_file = read_log(out / "log.jsonl"), out / "config.yaml"
    if not log or not settings_file.is_file():
        return None
    settings: dict[str, Any] = yaml.safe_load(settings_file.read_text(encoding="utf-8"))
    expected = expected_of(settings)
    behind = expected.stretched(settings["steps"]) if expected is not None else None
    caption = "Blue: this run, each step faint, a running mean bold."
    if expected is not None:
        caption += f" Grey: {expected.title}, {expected.steps} steps, stretched to the length of this run."
    svg = svg_of(
        loss_curves(log, expected=behind), name="curves", alt="The loss, its parts and monitors over the steps"
    )
    quick = speed(out / "log.jsonl", settings["batch"])
    rows = [
        ["steps done", f"{log[-1]['step'] + 1} of {settings['steps']}"],
        ["samples per second", f"{quick.samples_per_s:.2f}"],
        ["fraction of the time waiting for data", f"{quick.wait_share:.1%}"],
    ]
    read = [[name, said, _last(log, name)] for name, said in MEANINGS.items() if any(name in entry for entry in log)]
    parts: list[Html] = [svg_figure(svg, caption=caption), table(["Run", ""], rows)]
    if read:
        parts.append(table(["Curve", "How to read it", "last"], read))
    lead = f"{settings.get('method', 'sam')} on {settings['backbone']}"
    write_text(out / NAME, page("Training", [Section("curves", "Curves", parts)], lead=lead))
    return out / NAME


def _last(log: list[dict[str, Any]], name: str) -> str:
    return f"{next(entry[name] for entry in reversed(log) if name in entry):.3g}"
