"""Fine-tuned models in Python: load one, predict one scan."""

from __future__ import annotations

import os
from typing import Any, Protocol, runtime_checkable

from alice3d.data.preprocessing.intensity import IntensityRule
from alice3d.errors import UserError
from alice3d.io.in_memory import ScanLike
from alice3d.tasks.run import task_of_model


@runtime_checkable
class Model(Protocol):
    """A trained model of any task: `SegmentationModel`, `Classifier`, or one of your own task.

    Attributes:
        card: the JSON beside the weights: task, spacing, intensity rule, training scans.
        rule: the intensity rule, from voxel values to channels.
        spacing_mm: (3,) along R, A, S, at which it reads scans.
    """

    @property
    def card(self) -> dict[str, Any]: ...

    @property
    def rule(self) -> IntensityRule: ...

    @property
    def spacing_mm(self) -> tuple[float, float, float]: ...

    def predict(self, scan: ScanLike, *, points_mm: Any = None, device: str = "auto") -> Any:
        """See `alice3d.predict`."""
        ...


def load_model(path: str | os.PathLike[str]) -> Model:
    """Load a model from a folder of `finetune` or a safetensors file, in evaluation mode.

    >>> model = alice3d.load_model("model")  # doctest: +SKIP
    >>> model.card["task"]                   # doctest: +SKIP

    Raises:
        UserError: missing, damaged, or of a task that is not known or applies to files alone.
    """
    weights, task = task_of_model(path)
    model = task.load(weights)
    if not isinstance(model, Model):
        raise UserError(f"{path}: the models of {type(task).__name__} have no predict(scan, *, points_mm, device)")
    return model


def predict(
    model: Model | str | os.PathLike[str], scan: ScanLike, *, points_mm: Any = None, device: str = "auto"
) -> Any:
    """Predict one scan: a label map, or class probabilities.

    >>> made = alice3d.predict("model", "scan.nii.gz")                       # doctest: +SKIP
    >>> made.array.shape == nib.load("scan.nii.gz").shape, made.names        # doctest: +SKIP

    Args:
        model: what `load_model` gave, or a folder or a file.
        scan: a file; (array, affine): numpy or torch voxels (i, j, k) in the scanner's units (HU for CT) and (4, 4) to
            RAS mm; a nibabel or a SimpleITK image. Any orientation and spacing.
        points_mm: (n, 3) RAS mm, for a classifier of points.
        device: cpu, cuda, cuda:N, mps or auto.

    Returns:
        Of a segmenter a `LabelMap`: `array` (i, j, k) in the scan's own grid, `affine`, `names`, `save(path)`.
        Of a classifier `ClassScores`: `classes` (k,), `probabilities` (n, k), `predicted` (n,); whole scans: n = 1.
        Both are the same as `alice predict` writes.

    Raises:
        UserError: the scan cannot be read or is of another modality, or `points_mm` does not match the model.
    """
    made = load_model(model) if isinstance(model, (str, os.PathLike)) else model
    return made.predict(scan, points_mm=points_mm, device=device)
