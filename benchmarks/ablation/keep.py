"""Keep an ablation's table, tests and plot in benchmarks/results/ablation: python benchmarks/ablation/keep.py OUT."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep

RESULTS = Path(__file__).parents[1] / "results" / "ablation"


def short(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without places: warm start, pairs and landmarks are known by their checksums."""
    return {key: value for key, value in settings.items() if key not in ("init", "pairs", "landmarks", "store")}


def main(out: Path) -> None:
    """Copy compare.md, compare.csv and compare.png, and write tests and settings as JSON."""
    status = json.loads((out / "status.json").read_text(encoding="utf-8"))
    if status["state"] != "done":
        raise SystemExit(f"{out}: the comparison is not finished; give `alice compare` again, it goes on")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in ("compare.md", "compare.csv", "compare.png"):
        shutil.copy(out / name, RESULTS / name)
    cards = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("cells/*/*/encoder/encoder.json"))
    ]
    result = {
        "settings": short(status["settings"]),
        "asked": short(status["result"]["asked"]),
        "warm_start_sha256": status["settings"]["inputs"]["init"],
        "commits": sorted({card["source_commit"] for card in cards if card["source_commit"]}),
        "best": status["result"]["best"],
        "tests": status["result"]["tests"],
    }
    keep(RESULTS / "compare.json", {**result, **described()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
