"""Which levels of the pyramid find landmarks best, and how weighted: probe_levels.py ENCODER STORE LANDMARKS_CSV."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from machine import described, keep

from alice3d.data.store import Store
from alice3d.data.tables.landmarks import read_landmarks
from alice3d.evaluation import retrieval
from alice3d.evaluation.features import FeatureSimilarity, probe_scan, read_encoder
from alice3d.evaluation.probe import alike_of, find_landmarks, frozen_scans


def whiten(similarity: FeatureSimilarity, features: list[torch.Tensor], shrink: float) -> FeatureSimilarity:
    """Turn each level so that its features are uncorrelated over bodies; `shrink` of the mean variance is added."""
    joined = torch.cat([part.float()[::7] for part in features]) - similarity.mean
    turns = []
    for level in torch.split(joined, similarity.channels, dim=1):
        variance, axes = torch.linalg.eigh(torch.cov(level.T))
        turns.append(axes @ torch.diag((variance.clamp(min=0) + shrink * variance.mean()).rsqrt()) @ axes.T)

    class Whitened(FeatureSimilarity):
        def __call__(self, features: torch.Tensor) -> torch.Tensor:
            levels = torch.split(features.float() - self.mean, self.channels, dim=1)
            units = [torch.nn.functional.normalize(one @ turn, dim=1) for one, turn in zip(levels, turns, strict=True)]
            return torch.cat([w * one for w, one in zip(self.weights, units, strict=True)], dim=1)

    made = Whitened(features, similarity.channels, [1.0] * len(similarity.channels))
    made.weights = similarity.weights
    return made


def main(encoder: str, store_path: str, csv: str, split: str = "val") -> None:
    """Measure every variant on one split and print a line each."""
    torch.set_num_threads(1)
    store = Store.open(Path(store_path))
    backbone, reading, _ = read_encoder(encoder, torch.device("cpu"))
    landmarks = read_landmarks(csv, {case.id for case in store.cases(split)})
    scans = [
        probe_scan(
            store,
            store.case(name),
            rule=reading.rule,
            spacing_mm=reading.spacing_mm,
            points_mm=landmarks.points_mm[name],
        )
        for name in sorted(landmarks.points_mm)
    ]
    frozen = frozen_scans(backbone, scans, reading)
    features = [one.at_cells for one in frozen]
    rows: dict[str, dict[str, float]] = {}

    def measure(name: str, similarity: FeatureSimilarity) -> None:
        found = find_landmarks(frozen, similarity)
        assert found is not None
        error = found.error_mm
        rows[name] = {
            "mean_mm": round(float(error.mean()), 2),
            "median_mm": round(float(np.median(error)), 2),
            "within_10mm": round(float((error <= 10).mean()), 3),
        }
        print(f"{name:44}", *rows[name].values(), flush=True)

    def weighted(*squares: float) -> FeatureSimilarity:
        similarity = alike_of(backbone, frozen)
        similarity.weights = [(square / sum(squares)) ** 0.5 for square in squares]
        return similarity

    measure("as the probe does: weights by stride", alike_of(backbone, frozen))
    for name, squares in (
        ("stride 8 alone", (0, 0, 0, 1)),
        ("stride 4 alone", (0, 0, 1, 0)),
        ("stride 2 alone", (0, 1, 0, 0)),
        ("strides 4 and 8", (0, 0, 1, 1)),
        ("strides 2, 4 and 8", (0, 1, 1, 1)),
        ("all four, equal weights", (1, 1, 1, 1)),
    ):
        measure(name, weighted(*squares))
    plain = alike_of(backbone, frozen)
    plain.mean, plain.scale = torch.zeros_like(plain.mean), torch.ones_like(plain.scale)
    measure("not standardised", plain)
    for shrink in (0.01, 0.1, 1.0):
        measure(f"whitened, shrinkage {shrink:g}", whiten(alike_of(backbone, frozen), features, shrink))
    retrieval.CONTRAST = 1e6
    measure("without refinement of the peak", alike_of(backbone, frozen))
    result = {"encoder": encoder, "split": split, "points": int(sum(len(s.points_mm) for s in scans)), "variants": rows}
    keep(Path(__file__).parent / "results" / "probe" / "levels.json", {**result, **described()})


if __name__ == "__main__":
    main(*sys.argv[1:])
