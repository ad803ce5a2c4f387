"""Where the axes of an NRRD lie: directions, units and origin of its header."""

from __future__ import annotations

import re

import numpy as np

from alice3d.geometry import Affine
from alice3d.io.volume import ScanError, Unoriented, check_space, unoriented_affine

SIGNS = {"left": -1, "right": 1, "posterior": -1, "anterior": 1, "inferior": -1, "superior": 1}
SHORT = {"ras": "right-anterior-superior", "las": "left-anterior-superior", "lps": "left-posterior-superior"}
SHORT |= {f"{short}t": f"{space}-time" for short, space in SHORT.items()}
UNITS = {
    1.0: ("mm", "millimeter", "millimeters", "millimetre", "millimetres", ""),
    10.0: ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    1000.0: ("m", "meter", "meters", "metre", "metres"),
    0.001: ("um", "\xb5m", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"),
}
UNITS_MM = {word: factor for factor, words in UNITS.items() for word in words}


def space_of(fields: dict[str, str]) -> tuple[list[str], bool]:
    """Words of the header's space, such as left, posterior, superior; and whether time is its fourth axis."""
    space = fields.get("space", "").lower()
    words = SHORT.get(space, space).split("-")
    return (words[:-1], True) if words[-1] == "time" else (words, False)


def numbers(text: str, name: str, key: str) -> list[float]:
    try:
        return [float(word) for word in re.split(r"[\s,()]+", text.strip("() \t")) if word]
    except ValueError:
        raise ScanError(name, f"bad header: {key} is {text[:40]!r}") from None


def directions(fields: dict[str, str], rank: int, name: str) -> list[list[float] | None]:
    """One vector (3,) in the header's units an axis of the array; None where it is no axis of space (none, NaN, time).

    Raises:
        ScanError: they do not fit the dimension.
    """
    timed = space_of(fields)[1]
    if "space directions" in fields:
        words = re.findall(r"none|\([^)]*\)", fields["space directions"].lower())
        vectors = [_direction(word, timed, name) for word in words]
    else:
        steps = numbers(fields.get("spacings", ""), name, "spacings")
        if len(steps) != rank:
            raise ScanError(name, "bad spacing: the header gives neither space directions nor spacings")
        kept = [axis for axis in range(rank) if np.isfinite(steps[axis])]
        vectors = [None] * rank
        for place, axis in enumerate(kept[:3]):
            vectors[axis] = [steps[axis] if other == place else 0.0 for other in range(3)]
    if len(vectors) != rank or any(vector is not None and len(vector) != 3 for vector in vectors):
        raise ScanError(name, "bad header: space directions do not fit the dimension")
    return vectors


def _direction(word: str, timed: bool, name: str) -> list[float] | None:
    """The vector of one axis, without its component of time."""
    vector = None if word == "none" else numbers(word, name, "space directions")
    if vector is None or np.isnan(vector).all():
        return None
    if timed and len(vector) == 4:
        return vector[:3] if any(vector[:3]) else None
    return vector


def units_mm(fields: dict[str, str], vectors: list[list[float] | None], name: str) -> list[float]:
    """Millimetres to the unit of each component of the vectors.

    `space units` are of the axes of space: of the components of the origin and of every direction, whichever axis of
    the array that is of. `units` are of the array's axes, and go with `spacings`. (Definition of the NRRD file format,
    sections 4 and 6, https://teem.sourceforge.net/nrrd/format.html.)
    """
    key, places = "space units", [0, 1, 2]
    if "space directions" not in fields and "units" in fields:
        key, places = "units", [axis for axis, vector in enumerate(vectors) if vector is not None]
    text = fields.get(key, "")
    units = [unit.strip().lower() for unit in re.findall(r'"([^"]*)"', text) or text.split()] or [""]
    if len(set(units)) == 1:  # one for all
        units = units[:1] * (len(vectors) + 3)
    if len(units) <= max(places, default=0):
        raise ScanError(name, f"bad header: {key} {text[:40]} do not fit the dimension")
    chosen = [units[place] for place in places]
    if any(unit not in UNITS_MM for unit in chosen):
        raise ScanError(name, f"unknown unit: {text[:40]}; mm is needed")
    factors = [UNITS_MM[unit] for unit in chosen]
    if "" in chosen and set(factors) != {1.0}:
        raise ScanError(name, f"unknown unit: {key} {text[:40]} leave an axis out; mm is needed")
    return factors


def affine_of(
    fields: dict[str, str],
    vectors: list[list[float] | None],
    units_mm: list[float],
    shape: tuple[int, int, int],
    name: str,
    unoriented: Unoriented,
) -> tuple[Affine, tuple[str, ...]]:
    if any(vector is None for vector in vectors):
        raise ScanError(name, "bad header: an axis has no direction in space")
    matrix = np.array(vectors, np.float64).T
    if not (np.isfinite(matrix).all() and (np.abs(matrix).sum(axis=0) > 0).all()):
        raise ScanError(name, f"bad spacing: space directions {fields.get('space directions', fields.get('spacings'))}")
    mm = np.array(units_mm)
    notes = ("header's unit is not mm, converted",) if (mm != 1).any() else ()
    matrix = matrix * mm[:, None]
    words, timed = space_of(fields)
    if "space directions" not in fields or len(words) != 3 or any(word not in SIGNS for word in words):
        steps = np.sqrt((matrix**2).sum(axis=0))
        affine, more = unoriented_affine(steps, shape, unoriented, name, "no space is stated")
        return affine, (*notes, *more)
    affine = np.eye(4)
    signs = np.array([SIGNS[word] for word in words])
    affine[:3, :3] = matrix * signs[:, None]
    origin = numbers(fields.get("space origin", "(0,0,0)"), name, "space origin")
    origin = origin[:3] if timed and len(origin) == 4 else origin
    if len(origin) != 3:
        raise ScanError(name, f"bad header: space origin is {fields['space origin'][:40]!r}")
    affine[:3, 3] = np.array(origin) * signs * mm
    return check_space(affine, name), notes
