"""Probes of frozen features: linear Dice, k-NN accuracy, landmark retrieval; and a quick version for training."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alice3d import console
from alice3d.data.store import Case, Store
from alice3d.data.tables.landmarks import Landmarks
from alice3d.errors import UserError
from alice3d.evaluation.features import FeatureSimilarity, FrozenScan, ProbeScan, Reading, clear_of, freeze, probe_scan
from alice3d.evaluation.landmarks import ordered_pairs
from alice3d.evaluation.linear_probe import linear_scores
from alice3d.evaluation.retrieval import Retrieved, describe_errors, retrieve
from alice3d.io.volume import ScanError
from alice3d.memory import NO_MEMORY, within_memory
from alice3d.metrics.intervals import FRACTION, mean_interval
from alice3d.metrics.segmentation import StructureScore
from alice3d.nn.backbones.base import Backbone
from alice3d.tasks.segmentation.samples import class_values
from alice3d.tasks.settings import LinearSettings

# Shape suffixes: n positions, b of the bank, d width of the vectors.


def nearest_classes(
    vectors_nd: Tensor, bank_bd: Tensor, bank_classes: NDArray[np.int64], neighbours: int
) -> NDArray[np.int64]:
    """k-NN class (n,) of each row from the most similar rows of a bank; of classes with equal votes the lowest."""
    count = min(neighbours, len(bank_bd))
    classes = torch.from_numpy(bank_classes)
    found = [torch.zeros(0, dtype=torch.long)]
    for rows in torch.split(vectors_nd, 4096):
        voters = classes[(rows @ bank_bd.T).topk(count, dim=1).indices]
        votes = torch.zeros(len(rows), int(classes.max()) + 1).scatter_add_(1, voters, torch.ones(voters.shape))
        found.append(votes.argmax(dim=1))
    return torch.cat(found).numpy()


def knn_accuracy(
    scans: Sequence[FrozenScan],
    bank: Sequence[FrozenScan],
    similarity: FeatureSimilarity,
    *,
    neighbours: int = 15,
    patients: Mapping[str, str] | None = None,
) -> dict[str, dict[int, float]]:
    """k-NN accuracy of sampled voxels, for each case and class.

    Args:
        scans: whose voxels are classified.
        bank: labelled voxels of these scans; those of the classified scan's patient are left out.
        neighbours: k of k-NN.
        patients: case id to patient, where one has several cases.
    """
    known_as = patients or {}
    accuracy: dict[str, dict[int, float]] = {}
    for one in scans:
        own = known_as.get(one.scan.case, one.scan.case)
        others = [other for other in bank if known_as.get(other.scan.case, other.scan.case) != own]
        truth = one.scan.classes
        if not others or not len(truth):
            continue
        known = similarity(torch.cat([other.at_voxels for other in others]))
        classes = np.concatenate([other.scan.classes for other in others])
        predicted = nearest_classes(similarity(one.at_voxels), known, classes, neighbours)
        accuracy[one.scan.case] = {int(k): float((predicted[truth == k] == k).mean()) for k in np.unique(truth)}
    return accuracy


def frozen_scans(backbone: Backbone, scans: Sequence[ProbeScan], reading: Reading) -> list[FrozenScan]:
    """Features of many scans, each read once; the backbone must be in evaluation mode."""
    return [freeze(backbone, scan, crop=reading.crop, device=reading.device) for scan in scans]


def alike_of(backbone: Backbone, scans: Sequence[FrozenScan]) -> FeatureSimilarity:
    """Feature similarity, standardised over these scans."""
    return FeatureSimilarity([one.at_cells for one in scans], backbone.channels, backbone.strides)


def find_landmarks(
    scans: Sequence[FrozenScan], similarity: FeatureSimilarity, *, limit: int = 2500, seed: int = 0
) -> Retrieved | None:
    """Landmarks of all ordered pairs of scans, or of a seeded random sample of `limit`; None where no two share any."""
    marks = Landmarks({one.scan.case: one.scan.points_mm for one in scans if one.scan.points_mm}, ())
    pairs = ordered_pairs(marks, limit=limit, seed=seed)
    return retrieve(scans, similarity, pairs) if pairs else None


MEASURES = ("linear", "knn", "landmark")
KNN_VOXELS = 50
"""Voxels sampled per case and structure, see `probe_scan`."""


@dataclass(frozen=True)
class Probed:
    """Results of one encoder; None for a measure that was not requested.

    Attributes:
        linear: one row per case and structure.
        knn: accuracy of each case and class index.
        landmark: one row per landmark of an ordered pair.
        names: of the classes.
        patients: case id to patient, where one has several cases; intervals are over patients.
    """

    linear: list[StructureScore] | None
    knn: dict[str, dict[int, float]] | None
    landmark: Retrieved | None
    names: tuple[str, ...]
    patients: Mapping[str, str] = field(default_factory=dict)

    def owners(self, cases: Iterable[str]) -> list[str]:
        """The patient of each case."""
        return [self.patients.get(case, case) for case in cases]

    def by_case(self, measure: str) -> dict[str, float]:
        """Mean over the structures of each case: Dice (`linear`) or accuracy (`knn`)."""
        if measure == "knn":
            return {case: float(np.mean(list(of.values()))) for case, of in (self.knn or {}).items()}
        dice: dict[str, list[float]] = {}
        for score in self.linear or []:
            dice.setdefault(score.case, []).append(score.dice)
        return {case: float(np.mean(values)) for case, values in dice.items()}

    def summary(self, seed: int = 0) -> dict[str, Any]:
        """The keys of `alice probe --json`, and each measure with its intervals and structures."""
        result: dict[str, Any] = dict.fromkeys(
            ("linear_dice", "knn_accuracy", "landmark_mean_mm", "landmark_median_mm"), None
        )
        if self.linear is not None:
            of_case = self.by_case("linear")
            interval = mean_interval(list(of_case.values()), self.owners(of_case), bounds=FRACTION)
            names = sorted({score.structure for score in self.linear})
            structures = {n: float(np.mean([s.dice for s in self.linear if s.structure == n])) for n in names}
            result["linear_dice"] = clear_of(interval["mean"])
            result["linear"] = {"cases": len(of_case), **interval, "by_structure": structures}
        if self.knn is not None:
            of_case = self.by_case("knn")
            interval = mean_interval(list(of_case.values()), self.owners(of_case), bounds=FRACTION)
            structures = {
                name: float(np.mean([of[k] for of in self.knn.values() if k in of]))
                for k, name in enumerate(self.names)
                if any(k in of for of in self.knn.values())
            }
            result["knn_accuracy"] = clear_of(interval["mean"])
            result["knn"] = {"cases": len(of_case), **interval, "by_structure": structures}
        if self.landmark is not None:
            errors = describe_errors(self.landmark, self.landmark.error_mm, seed=seed, patients=self.patients)
            pairs = set(zip(self.landmark.query.tolist(), self.landmark.key.tolist(), strict=True))
            result["landmark_mean_mm"] = errors["mean_mm"]["mean"]
            result["landmark_median_mm"] = errors["median_mm"]["median"]
            result["landmark"] = {"pairs": len(pairs), "points": len(self.landmark.error_mm), **errors}
        return result


def probe_encoder(
    backbone: Backbone,
    reading: Reading,
    store: Store,
    *,
    train: list[Case],
    cases: list[Case],
    marked: Collection[Case],
    landmarks: Landmarks | None,
    measures: Collection[str],
    settings: LinearSettings,
    neighbours: int = 15,
    seed: int = 0,
) -> Probed:
    """Evaluate a frozen encoder; features for k-NN and landmarks are computed once per case.

    Args:
        backbone: in evaluation mode.
        train: labelled cases for the linear head and k-NN.
        cases: labelled cases that are scored.
        marked: cases with landmarks.
        landmarks: of them.
        measures: of `MEASURES`.
        settings: of the linear head.
        neighbours: k of k-NN.
        seed: of all sampling.
    """
    backbone.eval().to(reading.device)
    values = class_values(train) if train else (0,)
    points = landmarks.points_mm if landmarks is not None and "landmark" in measures else {}
    wanted = {case.id: case for case in marked if case.id in points}
    asked = {case.id for case in (*train, *cases)} if "knn" in measures else set()
    wanted |= {case.id: case for case in (*train, *cases) if case.id in asked}
    scans: dict[str, FrozenScan] = {}
    with console.progress("Reading features", len(wanted)) as bar:
        for name, case in sorted(wanted.items()):
            bar.advance(note=name)
            try:
                with within_memory(partial(ScanError, name)):
                    scan = probe_scan(
                        store,
                        case,
                        rule=reading.rule,
                        spacing_mm=reading.spacing_mm,
                        points_mm=points.get(name),
                        values=values,
                        voxels=KNN_VOXELS if name in asked else 0,
                        seed=seed,
                    )
                    scans[name] = freeze(backbone, scan, crop=reading.crop, device=reading.device)
            except ScanError as error:
                console.warn(f"{name} is refused: {error.reason}")
    left_out = set(wanted) - set(scans)
    train, cases = ([case for case in some if case.id not in left_out] for some in (train, cases))
    if wanted and not (scans and (train or "knn" not in measures) and (cases or "knn" not in measures)):
        raise UserError(f"{min(left_out)}: {NO_MEMORY}; too few scans are left to be probed")
    knn, landmark = None, None
    if "knn" in measures:
        similarity = alike_of(backbone, [scans[case.id] for case in train])
        bank = [scans[case.id] for case in train]
        shown = [scans[case.id] for case in cases if case.structures]  # a healthy case shows background alone
        knn = knn_accuracy(shown, bank, similarity, neighbours=neighbours, patients=store.patients)
    if points:
        chosen = [scans[name] for name in sorted(scans) if name in points]
        landmark = find_landmarks(chosen, alike_of(backbone, chosen), seed=seed)
    linear = None
    if "linear" in measures:
        linear = linear_scores(backbone, reading, store, train, cases, settings, seed=seed)
    names = ("background", *(store.label_names.get(value, f"label_{value}") for value in values[1:]))
    return Probed(linear, knn, landmark, names, store.patients)
