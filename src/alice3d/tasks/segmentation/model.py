"""From a trained model and a scan to class probabilities and label maps: windows, grids, components."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.data.preprocessing.preprocess import prepare_array
from alice3d.device import resolve_device
from alice3d.errors import UserError
from alice3d.geometry import Affine, Grid
from alice3d.io.forms import Forms
from alice3d.io.in_memory import ScanLike, as_volume, name_of
from alice3d.io.volume import Volume
from alice3d.io.write import write_label
from alice3d.nn.heads.segmentation import build_segmenter
from alice3d.nn.tiling import predict_probabilities, reading_window
from alice3d.tasks.segmentation.components import remove_small_components
from alice3d.tasks.segmentation.target_grid import classes_on_grid
from alice3d.weights.files import backbone_of, fill_module, read_model_card, read_state

# Shape suffixes: c channels, k classes (0 is background), xyz voxels.


@dataclass(frozen=True)
class LabelMap:
    """Prediction of a segmenter for one scan.

    Attributes:
        array: (i, j, k) int16 label values in the scan's own grid, 0 is background.
        affine: (4, 4) of the scan, voxel index to RAS mm.
        names: value to name.
        forms: sform and qform of a NIfTI scan; None for other formats.
    """

    array: NDArray[np.int16]
    affine: Affine
    names: dict[int, str]
    forms: Forms | None = field(default=None, repr=False)

    def save(self, path: str | Path) -> None:
        """Write NIfTI, as `alice predict` does; `path` ends in .nii or .nii.gz.

        Raises:
            UserError: another ending.
            WorkFailed: the disk is full or cannot be written.
        """
        if not str(path).endswith((".nii", ".nii.gz")):
            raise UserError(f"{path}: label maps are written as NIfTI; give a name that ends in .nii or .nii.gz")
        write_label(Path(path), self.array, self.affine, self.forms)


@dataclass(frozen=True)
class SegmentationModel:
    """A segmenter of `finetune`.

    Attributes:
        net: volume (b, c, x, y, z) to class logits (b, k, x, y, z).
        card: the JSON card of the weights.
        rule: how voxels become channels.
        spacing_mm: (3,) the spacing that the network was trained at.
        values: label value of each class; values[0] is 0, background.
        names: value to name.
        window: voxels per side of the sliding windows of larger scans.
        whole_voxels: scans up to this many voxels are predicted as a whole.
        single_piece: classes that are one connected structure: their small components are removed, see `components`.
    """

    net: nn.Module
    card: dict[str, Any]
    rule: IntensityRule
    spacing_mm: tuple[float, float, float]
    values: tuple[int, ...]
    names: dict[int, str]
    window: int
    whole_voxels: int
    single_piece: tuple[int, ...]

    def probabilities(self, image_cxyz: NDArray[np.float32], *, device: str = "cpu") -> NDArray[np.float32]:
        """Class probabilities (k, x, y, z) of channels (c, x, y, z) at the model's spacing."""
        return predict_probabilities(
            self.net, image_cxyz, window=self.window, whole_voxels=self.whole_voxels, device=device
        )

    def label_map(
        self, image_cxyz: NDArray[np.float32], grid: Grid, target: Grid, *, device: str = "cpu"
    ) -> NDArray[np.int16]:
        """Label values (x, y, z) on the grid `target`.

        Args:
            image_cxyz: channels of the scan.
            grid: of `image_cxyz`, at the model's spacing.
            target: grid of the output, any spacing and orientation.
            device: device of the network.
        """
        probabilities = self.probabilities(image_cxyz, device=device)
        classes = classes_on_grid(probabilities, grid, target)
        remove_small_components(classes, self.single_piece)
        return np.asarray(self.values, np.int16)[classes]

    def of_volume(self, volume: Volume, *, name: str = "scan", device: str = "cpu") -> LabelMap:
        """Segment a scan in memory.

        Args:
            volume: in the scanner's units (HU for CT), any orientation and spacing.
            name: of the scan, for messages.
            device: where the net runs.

        Raises:
            ScanError: of another modality, or too large.
        """
        prepared = prepare_array(volume, spacing_mm=self.spacing_mm, modality=self.rule.modality, name=name)
        x, y, z = volume.array.shape
        image = self.rule(prepared.image, prepared.stats)
        labels = self.label_map(image, prepared.grid, Grid((x, y, z), volume.affine), device=device)
        return LabelMap(labels, volume.affine, self.names, volume.forms)

    def predict(self, scan: ScanLike, *, points_mm: None = None, device: str = "auto") -> LabelMap:
        """Segment a scan of any kind: a file, (array, affine), a nibabel or a SimpleITK image.

        >>> model.predict("scan.nii.gz").save("labels.nii.gz")  # doctest: +SKIP

        Args:
            scan: see `io.in_memory`; voxels in the scanner's units (HU for CT).
            points_mm: for classifiers of points alone.
            device: cpu, cuda, cuda:N, mps or auto.

        Raises:
            UserError: the scan cannot be read, or is of another modality.
        """
        if points_mm is not None:
            raise UserError("points_mm: the model segments whole scans")
        return self.of_volume(as_volume(scan), name=name_of(scan), device=str(resolve_device(device)))


def load_model(path: str | os.PathLike[str]) -> SegmentationModel:
    """The segmenter of a `finetune` folder or of a model.safetensors file, in evaluation mode.

    Raises:
        UserError: missing, damaged, or a model of another task.
    """
    weights, card = read_model_card(path, "segmentation")
    names = {int(value): str(name) for value, name in card["labels"].items()}
    values = (0, *sorted(names))
    backbone = backbone_of(card)
    net = build_segmenter(backbone, len(values), card["head"])
    window, whole_voxels = reading_window(backbone, int(card["crop"]))
    fill_module(net, read_state(weights), weights.name)
    x, y, z = (float(mm) for mm in card["spacing_mm"])
    return SegmentationModel(
        net=net.eval(),
        card=card,
        rule=IntensityRule(**card["intensity"]),
        spacing_mm=(x, y, z),
        values=values,
        names=names,
        window=window,
        whole_voxels=whole_voxels,
        single_piece=tuple(values.index(int(value)) for value in card.get("single_piece", [])),
    )
