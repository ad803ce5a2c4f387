"""A trained classifier of `alice finetune`: class probabilities of scans, or of points in them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.preprocessing.preprocess import Prepared, prepare_array
from alice3d.data.store import Case
from alice3d.data.store.read_grid import Images, read_grid
from alice3d.data.tables.classes import outside
from alice3d.device import resolve_device
from alice3d.errors import UserError
from alice3d.geometry import checked_points
from alice3d.io.in_memory import ScanLike, as_volume, name_of
from alice3d.io.volume import ScanError, Volume
from alice3d.nn.heads.classification import ClassificationNet
from alice3d.tasks.classification.samples import FieldOfView
from alice3d.weights.files import backbone_of, fill_module, read_model_card, read_state

BATCH = 8
"""Views per forward pass."""


@dataclass(frozen=True)
class ClassScores:
    """Prediction of a classifier for one scan, or for points in it.

    Attributes:
        classes: (k,) names.
        probabilities: (n, k), each row sums to 1: one row per point, one for a whole scan.
    """

    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]

    @property
    def predicted(self) -> tuple[str, ...]:
        """(n,) the class with the highest probability."""
        return tuple(self.classes[int(k)] for k in self.probabilities.argmax(axis=1))


@dataclass(frozen=True)
class Classifier:
    """A classifier.

    Attributes:
        net: in evaluation mode.
        card: the JSON card of the weights.
        rule: how voxels become channels.
        spacing_mm: (3,) the spacing that a file is prepared at.
        classes: names, in the order of the scores.
        pointed: whether it classifies points; else whole scans.
        field: field of view around a point, or around the centre of the body.
    """

    net: ClassificationNet
    card: dict[str, Any]
    rule: IntensityRule
    spacing_mm: tuple[float, float, float]
    classes: tuple[str, ...]
    pointed: bool
    field: FieldOfView

    @torch.no_grad()
    def scores(
        self, store: Images, case: Case, centres_mm: NDArray[Any], *, device: torch.device | str = "cpu"
    ) -> NDArray[np.float64]:
        """Class probabilities (n, k), which sum to 1, at centres (n, 3) RAS mm of a stored case."""
        net = self.net.to(device)
        found = []
        for first in range(0, len(centres_mm), BATCH):
            views = [
                read_grid(store, case, self.field.grid(centre), self.rule) for centre in centres_mm[first:][:BATCH]
            ]
            scores_nk = net(torch.from_numpy(np.stack(views)).to(device))
            found.append(scores_nk.cpu().double().softmax(dim=1).numpy())  # MPS has no float64
        return np.concatenate(found) if found else np.zeros((0, len(self.classes)))

    def scores_of_scan(
        self, scan: Prepared, centres_mm: NDArray[Any] | None, *, device: torch.device | str = "cpu"
    ) -> NDArray[np.float64]:
        """The same for a scan that `prepare_array` resampled to `spacing_mm`; without centres, for the whole scan."""
        x, y, z = scan.image.shape
        case = Case(
            id="scan",
            split="",
            shape=(x, y, z),
            grid=scan.grid,
            stats=scan.stats,
            body_box_mm=scan.body_box_mm,
            checksum=scan.checksum,
            content=scan.content,
            source="",
            labelled=False,
            structures=(),
        )
        if centres_mm is None:
            centres_mm = np.mean(scan.body_box_mm, axis=0)[None]
        return self.scores(_Held(scan.image), case, centres_mm, device=device)

    def of_volume(
        self,
        volume: Volume,
        points_mm: Any = None,
        *,
        name: str = "scan",
        device: torch.device | str = "cpu",
    ) -> ClassScores:
        """Classify a scan in memory, or points in it.

        Args:
            volume: in the scanner's units (HU for CT), any orientation and spacing.
            points_mm: (n, 3) RAS mm; None for the whole scan.
            name: of the scan, for messages.
            device: where the net runs.

        Raises:
            ScanError: of another modality, too large, or a point lies outside its body.
        """
        prepared = prepare_array(volume, spacing_mm=self.spacing_mm, modality=self.rule.modality, name=name)
        for point in () if points_mm is None else points_mm:
            reason = outside(tuple(point), prepared.grid)
            if reason:
                raise ScanError(name, reason)
        centres = None if points_mm is None else np.asarray(points_mm, np.float64)
        return ClassScores(self.classes, self.scores_of_scan(prepared, centres, device=device))

    def predict(self, scan: ScanLike, *, points_mm: Any = None, device: str = "auto") -> ClassScores:
        """Classify a scan of any kind (a file, (array, affine), a nibabel or a SimpleITK image), or points in it.

        >>> model.predict("scan.nii.gz").predicted  # doctest: +SKIP

        Args:
            scan: see `io.in_memory`; voxels in the scanner's units (HU for CT).
            points_mm: (n, 3) RAS mm, for a classifier of points alone.
            device: cpu, cuda, cuda:N, mps or auto.

        Raises:
            UserError: the scan cannot be read or is of another modality, points are lacking or needless, are no
                (n, 3) numbers, or lie outside its body.
        """
        if self.pointed and points_mm is None:
            raise UserError("points_mm: (n, 3) RAS mm are needed; the model classifies points")
        if not self.pointed and points_mm is not None:
            raise UserError("points_mm: the model classifies whole scans")
        points = None if points_mm is None else checked_points(points_mm)
        return self.of_volume(as_volume(scan), points, name=name_of(scan), device=str(resolve_device(device)))


class _Held:
    """One scan in memory, read like a store's."""

    def __init__(self, image: NDArray[Any]) -> None:
        self.held = image

    def image(self, id: str) -> NDArray[Any]:
        return self.held


def load_classifier(path: str | os.PathLike[str]) -> Classifier:
    """The classifier of a `finetune` folder or of a model.safetensors file, in evaluation mode.

    Raises:
        UserError: missing, damaged, or a model of another task.
    """
    weights, card = read_model_card(path, "classification")
    classes = tuple(str(name) for name in card["classes"])
    net = ClassificationNet(backbone_of(card), len(classes), card["pool"])
    fill_module(net, read_state(weights), weights.name)
    spacing, voxel = (tuple(float(mm) for mm in card[key]) for key in ("spacing_mm", "voxel_mm"))
    return Classifier(
        net=net.eval(),
        card=card,
        rule=IntensityRule(**card["intensity"]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        classes=classes,
        pointed=bool(card["points"]),
        field=FieldOfView(int(card["crop"]), (voxel[0], voxel[1], voxel[2])),
    )
