"""Pictures of a store, of matched points and of predictions, each ready for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.pairs import PairsTable
from alice3d.data.store import Case, Store
from alice3d.errors import UserError
from alice3d.report.page import Html, png_figure, text
from alice3d.report.planes import CT_WINDOW, LABEL_COLOURS, View, png_of, rows_of, side_by_side

Landmarks = Mapping[str, Mapping[str, Any]]
"""Case to structure to point (3,), RAS mm."""


@dataclass(frozen=True)
class Match:
    """A point of one patient and its match in another.

    Attributes:
        query, key: case ids.
        name: of the anatomy, "" where it has none.
        query_mm, key_mm: (3,) RAS mm.
        error_mm: distance to the true position; None where unknown.
        certainty: of the map at the point, 0 to 1.
    """

    query: str
    key: str
    name: str
    query_mm: NDArray[np.float64]
    key_mm: NDArray[np.float64]
    error_mm: float | None
    certainty: float


def spread_out(points: NDArray[Any], count: int) -> list[int]:
    """Indices of `count` of the points (n, 3) that lie far apart; the first is the one nearest the centre."""
    points = np.asarray(points, np.float64)
    chosen = [int(np.argmin(np.linalg.norm(points - points.mean(axis=0), axis=1)))]
    while len(chosen) < min(count, len(points)):
        distance = np.linalg.norm(points[:, None] - points[chosen], axis=-1).min(axis=1)
        chosen.append(int(np.argmax(distance)))
    return chosen


def choose_matches(store: Store, table: PairsTable, landmarks: Landmarks, count: int = 3) -> list[Match]:
    """Points far apart, in the scan pair with most accepted rows, mapped to the key by the pair's map.

    Landmarks of both scans are used where there are any, since their true position is known; else accepted rows of
    the table. They are chosen by position, never by the quality of the match.

    Returns:
        [] where the table has no usable pair.
    """
    known = {case.id for case in store.cases()}
    pairs = [pair for pair in table.scan_pairs() if known.issuperset(pair)]
    if not pairs:
        return []
    shared = {pair: sorted(set(landmarks.get(pair[0], {})) & set(landmarks.get(pair[1], {}))) for pair in pairs}
    accepted = {pair: int(table.rows(*pair).accepted.sum()) for pair in pairs}
    query, key = max(pairs, key=lambda pair: (min(len(shared[pair]), count), accepted[pair]))
    names = shared[query, key]
    if len(names) >= count:
        points = np.array([landmarks[query][name] for name in names], np.float64)
    else:
        rows = table.rows(query, key)
        points, names = rows.query_mm[rows.accepted].astype(np.float64), []
    field = table.correspondence(query, key)
    found, certainty = field.map(points), field.certainty(points)
    matches = []
    for n in spread_out(points, count):
        error = float(np.linalg.norm(found[n] - landmarks[key][names[n]])) if names else None
        name = names[n] if names else ""
        matches.append(Match(query, key, name, points[n], found[n], error, float(certainty[n])))
    return matches


def view_of(
    store: Store, case: Case, point_mm: NDArray[Any], *, overlay: NDArray[Any] | None = None, title: str = ""
) -> View:
    """A stored scan with a point (3,) RAS mm marked; CT through a soft tissue window."""
    window = CT_WINDOW if store.spec.modality == "ct" else None
    return View(store.image(case.id)[:, :, :], case.spacing_mm, case.grid.index(point_mm), overlay, title, window)


def match_figure(store: Store, match: Match) -> Html:
    """Query above key, three planes each."""
    name = match.name.replace("_", " ")
    figure = side_by_side(
        view_of(store, store.case(match.query), match.query_mm, title=f"{match.query}: query point"),
        view_of(store, store.case(match.key), match.key_mm, title=f"{match.key}: match"),
    )
    where = "a point" if not name else f"the point “{name}”"
    alt = f"{where} in {match.query} and the matched point in {match.key}, each in axial, coronal and sagittal planes"
    caption = (
        f"{name or 'Point'}: {place(match.query_mm)} in {match.query}, found at {place(match.key_mm)} in {match.key}"
    )
    if match.error_mm is not None:
        caption += f"; {match.error_mm:.1f} mm from its true position"
    return png_figure(png_of(figure), alt=alt, caption=caption + ".")


def place(point_mm: Sequence[float] | NDArray[Any]) -> str:
    """`(12, -40, 105) mm`, RAS."""
    return "(" + ", ".join(f"{value:.0f}" for value in point_mm) + ") mm"


def scans_figure(store: Store, count: int = 3) -> Html:
    """Three planes through the centre of the body of the first scans."""
    views = []
    for case in store.cases()[:count]:
        middle = np.mean(case.body_box_mm, axis=0)
        view = view_of(store, case, middle, title=f"{case.id}, {' × '.join(map(str, case.shape))} voxels")
        views.append(View(view.image_xyz, view.spacing_mm, view.index_ijk, None, view.title, view.window, False))
    if not views:
        raise UserError(f"{store.path}: the store holds no scan to draw")
    alt = "axial, coronal and sagittal planes of " + ", ".join(case.id for case in store.cases()[:count])
    caption = "The first scans as they are stored. R, L, A, P, S, I: right, left, front, back, head, feet."
    return png_figure(png_of(rows_of(views)), alt=alt, caption=caption)


def labels_figure(store: Store, case: Case, maps: Mapping[str, NDArray[Any]], *, caption: str) -> Html:
    """Label maps of one case below each other, through the centre of the structures in the first of them.

    Args:
        maps: title to label values (x, y, z) on the case's stored grid.
        caption: shown below.
    """
    first = next(iter(maps.values()))
    shown = np.argwhere(first > 0)
    index = shown.mean(axis=0) if len(shown) else (np.asarray(case.shape) - 1) / 2
    point = case.grid.world(index)
    views = []
    for title, labels in maps.items():
        view = view_of(store, case, point, overlay=labels, title=title)
        views.append(View(view.image_xyz, view.spacing_mm, view.index_ijk, labels, title, view.window, False))
    alt = f"{case.id} in axial, coronal and sagittal planes with coloured structures: " + ", ".join(maps)
    return png_figure(png_of(rows_of(views)), alt=alt, caption=caption)


def legend(names: Mapping[int, str]) -> Html:
    """Label names with the colours that `labels_figure` draws them in."""
    items = []
    for value, name in sorted(names.items()):
        colour = LABEL_COLOURS[(value - 1) % len(LABEL_COLOURS)]
        items.append(f'<li><span class="key" style="background:{colour}"></span>{text(name.replace("_", " "))}</li>')
    return Html('<ul class="legend">' + "".join(items) + "</ul>")
