"""Keep a comparison's table, tests, plot and scores in benchmarks/results: python benchmarks/ablation/keep.py OUT
[NAME].

A comparison that still runs is kept as far as it is: cells that both arms have are compared, and the page says so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import described, keep

from alice3d.comparison.scores import SCORES, read_scores, scores_csv
from alice3d.comparison.table import TESTS, Unit, best, by_patient, paired_tests, table
from alice3d.report.comparison_page import draw_comparison, page, table_csv

RESULTS = Path(__file__).parents[1] / "results"
TITLES = {"linear": "linear_dice", "knn": "knn_accuracy", "landmark": "landmark_mm"}


def units_of(out: Path) -> list[Unit]:
    """Scores of all cells that are there; arms in the order in which they were first made."""
    units = []
    paths = [path for path in out.glob("cells/*/seed-*/*.json") if path.stem.split("-")[0] in TITLES]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        measure, _, labels = path.stem.partition("-")
        seed = int(path.parent.name.removeprefix("seed-"))
        for case, key, value in json.loads(path.read_text(encoding="utf-8"))["scores"]:
            arm = path.parents[1].name
            units.append(Unit(arm, int(labels) if labels else None, seed, TITLES[measure], case, key, value))
    return units


def short(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without places: warm start and pairs are known by their checksums."""
    return {key: value for key, value in settings.items() if key not in ("init", "pairs", "landmarks", "store")}


def main(out: Path, name: str = "ablation") -> None:
    """Write compare.md, compare.csv, compare.png, scores.csv and compare.json."""
    status = json.loads((out / "status.json").read_text(encoding="utf-8"))
    settings = short(status["settings"])
    units = units_of(out)
    patients = read_scores(out / SCORES)[1] if (out / SCORES).is_file() else {}
    of_patients = by_patient(units, patients)
    rows = table(of_patients)
    reference = units[0].method
    cells = {(unit.method, unit.seed) for unit in units}
    arms = {method for method, _ in cells}
    seeds = sorted({seed for _, seed in cells})
    about = [
        f"{settings['pretrain']['steps']} steps of pre-training; scored on {len({unit.case for unit in units})} cases "
        f"of split `{settings['split']}`; {len(arms)} arms, seeds {', '.join(map(str, seeds))}.",
    ]
    if status["state"] != "done":
        about.append(f"**Not finished**: {len(cells)} cells so far; arms are compared over the seeds that both have.")
    folder = RESULTS / name
    folder.mkdir(parents=True, exist_ok=True)
    tests = paired_tests(of_patients, reference, patients)
    text = page(rows, tests, reference=reference, about=about, how_tested=TESTS)
    (folder / "compare.md").write_text(text, encoding="utf-8")
    (folder / "compare.csv").write_text(table_csv(rows), encoding="utf-8")
    (folder / SCORES).write_text(scores_csv(units, patients), encoding="utf-8")
    (folder / "compare.png").write_bytes(draw_comparison(rows, reference))
    cards = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("cells/*/*/encoder/encoder.json")]
    result = {
        "settings": settings,
        "arms": sorted(arms),
        "commits": sorted({card["source_commit"] for card in cards if card["source_commit"]}),
        "best": best(rows),
        "tests": tests,
    }
    keep(folder / "compare.json", {**result, **described()})


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
