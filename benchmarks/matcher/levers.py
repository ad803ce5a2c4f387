"""Settings of matching with one trained matcher, and sets of features that may predict its errors, on landmarks.

python benchmarks/matcher/levers.py --matcher headneck-ct --store STORE --landmarks LANDMARKS.csv --out levers.json

Ways are measured on all ordered pairs of one split and a seeded draw of another, of which neither is the test split.
Models of the features are fitted on the second and scored on the first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.append(str(Path(__file__).parents[1]))
from machine import described, keep

from alice3d import console
from alice3d.data.pairs.correspondence import Correspondence, fit_correspondence
from alice3d.data.store import Store
from alice3d.data.tables.landmarks import read_landmarks
from alice3d.device import resolve_device
from alice3d.evaluation.landmarks import chosen_cases, ordered_pairs
from alice3d.geometry import apply_affine
from alice3d.matching import Matcher
from alice3d.matching.embedding import EmbeddedScan
from alice3d.matching.matcher import PULL, REACH_CELLS
from alice3d.matching.search import search_all, search_near

Points = NDArray[np.float64]
SIGNALS = {
    "all six": ["similarity", "cycle_mm", "edge_mm", "beyond_mm", "apart_mm", "certainty"],
    "similarity": ["similarity"],
    "similarity and cycle error": ["similarity", "cycle_mm"],
    "similarity, cycle error and distance from the direct match": ["similarity", "cycle_mm", "apart_mm"],
}


class Pair:
    """A query and a key scan with their shared landmarks, and maps of several reaches between them."""

    def __init__(self, matcher: Matcher, query: EmbeddedScan, key: EmbeddedScan, points: Points, true: Points) -> None:
        self.matcher, self.query, self.key, self.points, self.true = matcher, query, key, points, true
        self.vectors = query.at(points)
        rows = matcher.fit(query, key).rows
        self.ends = rows.query_mm[rows.accepted], rows.key_mm[rows.accepted]
        self.map = self.field(25.0)

    def field(self, reach_mm: float) -> Correspondence:
        """The map through the accepted rows, smooth over `reach_mm`."""
        return fit_correspondence(*self.ends, reach_mm=reach_mm)[0]

    def near(self, reach: int = REACH_CELLS, pull: float = PULL) -> Points:
        """The most similar position near the map's prediction."""
        return search_near(self.vectors, self.key, self.map.map(self.points), reach=reach, pull=pull)


WAYS: dict[str, Callable[[Pair], Points]] = {
    "direct": lambda p: search_all(p.vectors, p.key),
    "robust, as shipped": lambda p: p.near(),
    "the map alone, over 25 mm": lambda p: p.map.map(p.points),
    "the map alone, over 15 mm": lambda p: p.field(15.0).map(p.points),
    "the map alone, over 35 mm": lambda p: p.field(35.0).map(p.points),
    "the pair's affine alone": lambda p: apply_affine(p.map.affine, p.points),
    "robust, pull 0.01": lambda p: p.near(pull=0.01),
    "robust, pull 0.1": lambda p: p.near(pull=0.1),
    "robust, pull 0.3": lambda p: p.near(pull=0.3),
    "robust, within 2 cells of the map": lambda p: p.near(reach=2),
    "mean of the map and the robust match": lambda p: (p.map.map(p.points) + p.near()) / 2,
}


def head_alone(scan: EmbeddedScan, fine_width: int, coarse_width: int) -> EmbeddedScan:
    """The same scan without the backbone's maps; searching normalises the rest."""
    return replace(scan, fine=scan.fine[:fine_width], coarse=scan.coarse[:coarse_width])


def measured(matcher: Matcher, store: Store, path: Path, split: str, limit: int = 2000) -> tuple[dict[str, Any], ...]:
    """Errors (n,) mm of each setting, and features (n,) of the robust match, over the pairs of a split."""
    marks = read_landmarks(path, chosen_cases(store, split))
    pairs = ordered_pairs(marks, limit=limit, seed=0)
    scans = {name: matcher.embed_case(store, store.case(name)) for name in sorted({n for pair in pairs for n in pair})}
    widths = matcher.card["matching"]["fine_width"], matcher.card["matching"]["coarse_width"]
    errors: dict[str, list[Points]] = {}
    features: dict[str, list[Points]] = {}
    with console.progress(f"Matching {split}", len(pairs)) as bar:
        for query, key in pairs:
            names = sorted(marks.points_mm[query].keys() & marks.points_mm[key].keys())
            points, true = (np.stack([marks.points_mm[case][name] for name in names]) for case in (query, key))
            pair = Pair(matcher, scans[query], scans[key], points, true)
            found = {name: way(pair) for name, way in WAYS.items()}
            one, two = (head_alone(scans[case], *widths) for case in (query, key))
            found["direct, the head alone"] = search_all(one.at(points), two)
            for name, places in found.items():
                errors.setdefault(name, []).append(np.linalg.norm(places - true, axis=1))
            _, seen = matcher.look(scans[query], scans[key], points, "robust", pair.map)
            for name, values in seen.items():
                features.setdefault(name, []).append(values)
            bar.advance(note=f"{query} {key}")
    return tuple({name: np.concatenate(of) for name, of in each.items()} for each in (errors, features))


def described_errors(error_mm: Points) -> dict[str, float]:
    """Mean, median and share within 10 mm."""
    return {
        "mean_mm": round(float(error_mm.mean()), 2),
        "median_mm": round(float(np.median(error_mm)), 2),
        "within_10mm": round(float((error_mm <= 10).mean()), 3),
    }


def columns(features: dict[str, Points], names: list[str]) -> NDArray[np.float64]:
    """MatchFeatures side by side; distances on a logarithmic scale, where a few are huge."""
    return np.column_stack(
        [np.log1p(np.clip(features[n], 0, 60) / 4) if n in ("cycle_mm", "apart_mm") else features[n] for n in names]
    )


def predicted(train: tuple[dict[str, Any], ...], val: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """AUROC on the first split of errors above 10 and 20 mm, predicted by models fitted on the second."""
    result: dict[str, Any] = {}
    key = "robust, as shipped"
    for title, names in SIGNALS.items():
        result[title] = {}
        for limit in (10, 20):
            far, true = train[0][key] > limit, val[0][key] > limit
            x, y = columns(train[1], names), columns(val[1], names)
            models = {
                "logistic": make_pipeline(StandardScaler(), LogisticRegression(C=0.1)),
                "boosted_trees": GradientBoostingClassifier(
                    n_estimators=60, max_depth=2, learning_rate=0.08, subsample=0.7, random_state=0
                ),
            }
            for name, model in models.items():
                probability = model.fit(x, far).predict_proba(y)[:, 1]
                result[title][f"{name}_auroc_{limit}mm"] = round(float(roc_auc_score(true, probability)), 2)
    return result


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--matcher", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--second-split", default="train")
    parser.add_argument("--second-pairs", type=int, default=120)
    args = parser.parse_args()
    store, matcher = Store.open(args.store), Matcher.load(args.matcher, device=resolve_device("cpu", 1))
    val = measured(matcher, store, args.landmarks, args.split)
    train = measured(matcher, store, args.landmarks, args.second_split, args.second_pairs)
    result: dict[str, Any] = {"what": "ways of matching, and what foretells errors", **described()}
    result["matcher"] = matcher.checksum
    for name, (errors, _) in ((args.split, val), (args.second_split, train)):
        result[name] = {"points": len(errors["direct"]), **{way: described_errors(of) for way, of in errors.items()}}
    result["foretold_on_" + args.split] = predicted(train, val)
    keep(args.out, result)
    for way in val[0]:
        scores = [described_errors(errors[way]) for errors in (val[0], train[0])]
        print(f"{way:40}", *(f"{t['mean_mm']:6.1f} {t['median_mm']:5.1f} {t['within_10mm']:.0%} |" for t in scores))
    for title, aurocs in result["foretold_on_" + args.split].items():
        print(f"{title:60} {aurocs}")


if __name__ == "__main__":
    main()
