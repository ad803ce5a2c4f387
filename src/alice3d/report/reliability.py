"""A picture of foretold against true errors of a matcher."""

from __future__ import annotations

import io
from typing import Any


def draw_reliability(trust: dict[str, Any]) -> bytes:
    """PNG: the share of matches more than 10 mm off against its foretold probability, bin by bin.

    Args:
        trust: see `evaluation.matching.trust_scores`, of a calibrated matcher.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1)
    foretold, true = ([row[name] for row in trust["reliability"]] for name in ("foretold", "true"))
    axes.plot(foretold, true, "o-", color="#3b6ea5")
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="foretold probability of an error above 10 mm",
        ylabel="share of the matches above 10 mm",
        title=f"AUROC {trust['foretold_auroc_10mm']:.2f} (> 10 mm), {trust['foretold_auroc_20mm']:.2f} (> 20 mm)"
        if trust["foretold_auroc_10mm"] is not None and trust["foretold_auroc_20mm"] is not None
        else "",
    )
    axes.title.set_fontsize(9)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()
