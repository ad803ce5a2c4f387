"""Segments of 3D Slicer in an NRRD (.seg.nrrd): names and values from the header's keys, layers where they overlap."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alice3d.io.folders import structure_name
from alice3d.io.structures import few, numbered, painted
from alice3d.io.volume import Header, ScanError, Volume
from alice3d.io.volumes import read_layers

KEY = re.compile(r"Segment(\d{1,6})_(Name|ID|LabelValue|Layer)")


@dataclass(frozen=True)
class Segment:
    """One structure of a segmentation.

    Attributes:
        name: as shown in Slicer.
        value: of its voxels.
        layer: which of the file's volumes holds it, from 0.
    """

    name: str
    value: int
    layer: int


def segments_of(keys: Mapping[str, str], sizes: Sequence[int], axes: Sequence[int], name: str) -> tuple[Segment, ...]:
    """Segments that a header's keys list; none for a plain NRRD.

    Files of Slicer before 4.11 give neither values nor layers: each segment is a volume of its own, of value 1.

    Args:
        keys: keys and values of the header.
        sizes: of the file's array.
        axes: those of space.
        name: of the file, for messages.

    Raises:
        ScanError: a segment without a value, or in a layer that is not there.
    """
    found: dict[int, dict[str, str]] = {}
    for key, text in keys.items():
        match = KEY.fullmatch(key.strip())
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = text.strip()
    layers = math.prod(size for axis, size in enumerate(sizes) if axis not in axes)
    segments = []
    for place, number in enumerate(sorted(found)):
        said = found[number]
        label = structure_name(said.get("Name", "")) or structure_name(said.get("ID", "")) or f"segment_{number}"
        alone = layers > 1 or len(found) == 1
        value, layer = said.get("LabelValue", "1" if alone else ""), said.get("Layer", "0")
        if "LabelValue" not in said and "Layer" not in said and layers > 1:
            layer = str(place)
        if not (value.isdecimal() and layer.isdecimal() and 0 < int(value) < 2**15 and int(layer) < layers):
            raise ScanError(name, f"bad header: segment {label} has value {value[:20]!r} in layer {layer[:20]!r}")
        segments.append(Segment(label, int(value), int(layer)))
    return tuple(segments)


def read_segments(header: Header, names: Mapping[int, str]) -> Volume:
    """Label map of a segmentation, on its own grid; where structures overlap, the smaller one is kept.

    Args:
        header: of the file.
        names: label value to name; structures of other names are left out, with a note. Empty: the file's own names,
            numbered from 1.

    Returns:
        (i, j, k) values, the affine, and notes.

    Raises:
        ScanError: damaged, voxels of no segment, or without any structure of `names`.
    """
    segments: tuple[Segment, ...] = header.details["segments"]
    own = [segment.name for segment in segments]
    value_of = {name: value for value, name in (names or numbered([own])).items()}
    left_out = sorted({name for name in own if name not in value_of})
    if len(left_out) == len(set(own)):
        raise ScanError(header.path.name, f"holds no declared structure, but {few(left_out)}")
    notes = [f"structures without a declared name are left out: {few(left_out)}"] if left_out else []
    twice = sorted({name for name in own if own.count(name) > 1})
    notes += [f"segments of one name are joined: {few(twice)}"] if twice else []
    layers = read_layers(header)
    masks: dict[int, list[NDArray[np.int64]]] = {}
    for layer in range(layers.shape[3]):
        stored = layers[..., layer].ravel()
        mine = [segment for segment in segments if segment.layer == layer]
        strange = sorted({int(value) for value in np.unique(stored)} - {0, *(segment.value for segment in mine)})
        if strange:
            values = few([str(value) for value in strange])
            raise ScanError(header.path.name, f"voxels of value {values} have no segment")
        for segment in mine:
            if segment.name in value_of:
                masks.setdefault(value_of[segment.name], []).append(np.flatnonzero(stored == segment.value))
    label, overlapped = painted({value: np.unique(np.concatenate(of)) for value, of in masks.items()}, header.shape)
    notes += ["structures overlap, the smaller one is kept"] if overlapped else []
    return Volume(label, header.affine, (*notes, *header.remarks))
