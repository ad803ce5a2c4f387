"""A scan as Python holds one: a file's name, an array with its affine, a nibabel or a SimpleITK image."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from alice3d.geometry import Affine
from alice3d.io.forms import Forms
from alice3d.io.nifti import affine_of_image
from alice3d.io.read import label_values, read_label, read_scan
from alice3d.io.volume import ScanError, Volume, check_shape, check_space, check_voxels, damaged, scaled


class NibabelImage(Protocol):
    """What is asked of a nibabel image."""

    @property
    def dataobj(self) -> Any: ...

    @property
    def affine(self) -> Any: ...


class SimpleITKImage(Protocol):
    """What is asked of a SimpleITK image; its points are LPS mm, its arrays run z, y, x."""

    def GetSize(self) -> Any: ...  # noqa: N802

    def GetDirection(self) -> Any: ...  # noqa: N802

    def GetOrigin(self) -> Any: ...  # noqa: N802

    def GetSpacing(self) -> Any: ...  # noqa: N802


ScanLike = str | os.PathLike[str] | Volume | tuple[Any, Any] | NibabelImage | SimpleITKImage
"""A file (or the folder of one DICOM series); (array, affine): numpy or torch (i, j, k), and (4, 4) to RAS mm; a
nibabel or a SimpleITK image; or what `read_scan` gave."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
IN_MEMORY = "scan"
"""Name of a scan that has none, in messages."""


def name_of(scan: object) -> str:
    """What messages call a scan: its file's name, or `scan`."""
    return Path(scan).name if isinstance(scan, (str, os.PathLike)) else IN_MEMORY


def as_volume(scan: ScanLike) -> Volume:
    """Bring a scan of any kind to voxels (i, j, k) and their affine to RAS mm, checked as a file's are.

    >>> as_volume((np.arange(8).reshape(2, 2, 2), np.eye(4))).array.dtype
    dtype('int16')

    Raises:
        ScanError: unreadable, no volume, nowhere in space, NaN, infinite or constant voxels, or no scan at all.
    """
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, (str, os.PathLike)):
        return read_scan(Path(scan))
    volume = _in_memory(scan)
    check_voxels(volume.array, IN_MEMORY)
    return volume


def as_label(label: ScanLike) -> Volume:
    """The same of a label map: whole numbers from 0, uint8 or int16.

    Raises:
        ScanError: as `as_volume`, or values that are no label values. An empty label map is none of them.
    """
    if isinstance(label, (str, os.PathLike)):
        return read_label(Path(label))
    volume = label if isinstance(label, Volume) else _in_memory(label, "iufb")
    return Volume(label_values(volume.array, IN_MEMORY), volume.affine, volume.notes)


def _in_memory(given: Any, kinds: str = "iuf") -> Volume:
    """Numbers of the types that files give: int16, int32 or float32; `kinds` of numpy are taken."""
    forms: Forms | None = None
    if all(hasattr(given, name) for name in ("GetSize", "GetDirection", "GetOrigin", "GetSpacing")):
        array, affine, notes = _of_simpleitk(given)
    elif isinstance(given, SpatialImage):
        affine, notes, forms = affine_of_image(given, IN_MEMORY)
        array = _array(given.dataobj)
    elif isinstance(given, (tuple, list)) and len(given) == 2:
        array, affine, notes = _array(given[0]), _array(given[1]), ()
    else:
        hint = "; an array needs its affine: give (array, affine)" if hasattr(given, "shape") else ""
        known = "a file, (array, affine), a nibabel or a SimpleITK image"
        raise ScanError(IN_MEMORY, f"{known} is needed, got {type(given).__name__}{hint}")
    if array.dtype.kind not in kinds:
        raise ScanError(IN_MEMORY, f"unsupported voxel type: {array.dtype}; numbers are needed")
    shape, more = check_shape(array.shape, IN_MEMORY)
    checked = check_space(affine, IN_MEMORY)
    return Volume(scaled(array.reshape(shape), 1.0, 0.0, IN_MEMORY), checked, (*notes, *more), forms)


def _array(held: Any) -> NDArray[Any]:
    """Numbers of an array, a torch tensor on any device, or a file that nibabel has not read yet."""
    if hasattr(held, "detach"):
        held = held.detach().cpu()
    try:
        return np.asarray(held)
    except TypeError:
        raise ScanError(IN_MEMORY, f"unsupported voxel type: {getattr(held, 'dtype', type(held).__name__)}") from None
    except Exception as error:  # damaged files raise nearly anything
        raise ScanError(IN_MEMORY, damaged(error)) from None


def _of_simpleitk(image: Any) -> tuple[NDArray[Any], Affine, tuple[str, ...]]:
    """Voxels (x, y, z) and their affine to RAS mm."""
    module: Any = sys.modules.get("SimpleITK")  # whoever holds such an image has loaded it: we depend on it no further
    if module is None:
        raise ScanError(IN_MEMORY, "SimpleITK is not loaded, its image cannot be read; give (array, affine) instead")
    size, notes = check_shape(tuple(int(n) for n in image.GetSize()), IN_MEMORY)
    numbers = int(image.GetNumberOfComponentsPerPixel())
    if numbers != 1:
        raise ScanError(IN_MEMORY, f"unsupported voxel type: {numbers} values per voxel; one is needed")
    sides = len(image.GetSize())
    direction = np.asarray(image.GetDirection(), np.float64).reshape(sides, sides)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.asarray(image.GetSpacing()[:3])  # a column for each voxel axis
    affine[:3, 3] = image.GetOrigin()[:3]
    zyx = np.asarray(module.GetArrayFromImage(image)).reshape(size[::-1])
    return zyx.transpose(), LPS_TO_RAS @ affine, notes
