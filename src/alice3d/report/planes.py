"""Three-plane pictures of scans: axial, coronal and sagittal through one point, drawn to scale with R L A P S I."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alice3d.version import PROGRAM

CT_WINDOW = (-200.0, 300.0)
"""HU from black to white: soft tissue, the usual window of a CT."""
LABEL_COLOURS = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
    "#8dd3c7", "#bebada", "#fb8072", "#b3de69", "#fccde5",
)  # fmt: skip
"""Label value v is drawn in colour (v - 1) modulo 12; the first seven are distinguishable by colour-blind readers
too."""
CROSSHAIR = "#ffd54a"
OVERLAY_STRENGTH = 0.45
ROW_INCHES = 2.6
MOST_INCHES = 7.4
TITLE_INCHES = 0.32
GAP_INCHES = 0.1


@dataclass(frozen=True)
class View:
    """One scan and the point that is shown.

    Attributes:
        image_xyz: (x, y, z) voxels with axes R, A, S: the index grows towards the patient's right, front and head.
        spacing_mm: (3,) voxel size.
        index_ijk: (3,) voxel index of the point, may be fractional; the planes go through the nearest voxel.
        overlay: (x, y, z) label values, 0 is not drawn.
        title: of the row.
        window: voxel values from black to white; None uses the 1st to 99th percentile.
        crosshair: whether the point is marked.
    """

    image_xyz: NDArray[Any]
    spacing_mm: Sequence[float] | NDArray[Any]
    index_ijk: Sequence[float] | NDArray[Any]
    overlay: NDArray[Any] | None = None
    title: str = ""
    window: tuple[float, float] | None = None
    crosshair: bool = True

    def __post_init__(self) -> None:
        shape = np.shape(self.image_xyz)
        if len(shape) != 3 or 0 in shape:
            raise ValueError(f"image_xyz has shape {shape}, expected three axes")
        if self.overlay is not None and np.shape(self.overlay) != shape:
            raise ValueError(f"overlay has shape {np.shape(self.overlay)}, the image {shape}")


@dataclass(frozen=True)
class Plane:
    """Layout of one plane on the page: both axes are reversed, so that R, A and S are left or on top."""

    name: str
    across: int
    """Array axis that runs from left to right on the page, from high index to low."""
    up: int
    """Array axis that runs from bottom to top, from low index to high."""
    through: int
    """Array axis that is fixed."""
    letters: tuple[str, str, str, str]
    """At the left, right, top and bottom edge."""


PLANES = (
    Plane("axial", 0, 1, 2, ("R", "L", "A", "P")),  # seen from the feet, as radiologists do
    Plane("coronal", 0, 2, 1, ("R", "L", "S", "I")),  # seen from the front
    Plane("sagittal", 1, 2, 0, ("A", "P", "S", "I")),  # seen from the patient's left
)


def slice_of(volume_xyz: NDArray[Any], plane: Plane, index: int) -> NDArray[Any]:
    """The slice (rows, columns) as it is shown on the page: row 0 is the top edge, column 0 the left edge."""
    picture = np.take(volume_xyz, index, axis=plane.through)
    # After np.take the remaining axes keep their order, across before up; rows are the second one.
    turned: NDArray[Any] = picture.T[::-1, ::-1]
    return turned


def grey(image: NDArray[Any], window: tuple[float, float]) -> NDArray[np.float64]:
    """Values (rows, columns) to brightness 0 .. 1."""
    low, high = window
    scaled: NDArray[np.float64] = np.clip((np.asarray(image, np.float64) - low) / max(high - low, 1e-9), 0, 1)
    return scaled


def window_of(image_xyz: NDArray[Any]) -> tuple[float, float]:
    """From the 1st to the 99th percentile of the voxels."""
    low, high = np.percentile(image_xyz[:: max(image_xyz.shape[0] // 64, 1)], (1, 99))
    return float(low), float(high) if high > low else float(low) + 1


def blend(brightness: NDArray[np.float64], labels: NDArray[Any] | None) -> NDArray[np.float64]:
    """Brightness (rows, columns) and label values to a picture (rows, columns, 3) in red, green and blue."""
    picture = np.repeat(brightness[..., None], 3, axis=-1)
    if labels is None:
        return picture
    colours = np.array([to_rgb(colour) for colour in LABEL_COLOURS])
    shown = np.asarray(labels) > 0
    painted = colours[(np.asarray(labels)[shown].astype(int) - 1) % len(colours)]
    picture[shown] = (1 - OVERLAY_STRENGTH) * picture[shown] + OVERLAY_STRENGTH * painted
    return picture


def draw_plane(axes: Axes, view: View, plane: Plane) -> None:
    """Draw one plane of a view into `axes`, in mm, with its letters and the crosshair."""
    shape = np.asarray(np.shape(view.image_xyz))
    spacing = np.broadcast_to(np.asarray(view.spacing_mm, np.float64), 3)
    point = np.asarray(view.index_ijk, np.float64)
    at = int(np.clip(np.rint(point[plane.through]), 0, shape[plane.through] - 1))
    window = view.window or window_of(view.image_xyz)
    labels = None if view.overlay is None else slice_of(view.overlay, plane, at)
    # mm on the page: across grows to the patient's left (or back), up to the head (or front).
    width, height = (float(shape[axis] * spacing[axis]) for axis in (plane.across, plane.up))
    axes.imshow(
        blend(grey(slice_of(view.image_xyz, plane, at), window), labels),
        extent=(0, width, 0, height),
        interpolation="nearest" if labels is not None else "bilinear",
        aspect="equal",
    )
    axes.set(xticks=[], yticks=[], facecolor="black")
    for side in axes.spines.values():
        side.set_visible(False)
    x = width - (point[plane.across] + 0.5) * spacing[plane.across]
    y = (point[plane.up] + 0.5) * spacing[plane.up]
    if view.crosshair and 0 <= x <= width and 0 <= y <= height:
        gap = 0.04 * max(width, height)  # the point itself is not covered
        for ends in (
            [(0, y), (x - gap, y)],
            [(x + gap, y), (width, y)],
            [(x, 0), (x, y - gap)],
            [(x, y + gap), (x, height)],
        ):
            axes.plot(*zip(*ends, strict=True), color=CROSSHAIR, linewidth=0.8)
        axes.set(xlim=(0, width), ylim=(0, height))
    places = (
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.98, "center", "top"),
        (0.5, 0.02, "center", "bottom"),
    )
    for letter, (left, bottom, ha, va) in zip(plane.letters, places, strict=True):
        axes.text(
            left, bottom, letter, transform=axes.transAxes, ha=ha, va=va, color="white", fontsize=8, alpha=0.9,
            bbox={"facecolor": "black", "alpha": 0.35, "pad": 1, "linewidth": 0},
        )  # fmt: skip


def rows_of(views: Sequence[View], *, title: str = "") -> Figure:
    """A figure with one row of three planes per view, all at one scale in mm, on black; each row has its title
    above."""
    spans = np.array([[_extent(view, plane) for plane in PLANES] for view in views])  # (rows, planes, width and height)
    across_mm = spans[..., 0].max(axis=0).sum()
    inches = spans * min(ROW_INCHES / spans[..., 1].max(), MOST_INCHES / across_mm)
    columns, rows = inches[..., 0].max(axis=0), inches[..., 1].max(axis=1)
    above = [TITLE_INCHES if view.title else GAP_INCHES for view in views]
    width = float(columns.sum()) + 4 * GAP_INCHES
    height = float(rows.sum()) + sum(above) + GAP_INCHES + (TITLE_INCHES if title else 0)
    figure = Figure(figsize=(width, height), facecolor="black")
    FigureCanvasAgg(figure)
    top = height
    if title:
        figure.text(0.5, 1 - 0.05 / height, title, color="white", fontsize=10, ha="center", va="top")
        top -= TITLE_INCHES
    for row, view in enumerate(views):
        figure.text(GAP_INCHES / width, (top - 0.08) / height, view.title, color="white", fontsize=9, va="top")
        top -= above[row] + rows[row]
        left = GAP_INCHES
        for column, plane in enumerate(PLANES):
            wide, high = inches[row, column]
            x, y = left + (columns[column] - wide) / 2, top + (rows[row] - high) / 2
            axes = figure.add_axes((x / width, y / height, wide / width, high / height))
            draw_plane(axes, view, plane)
            left += columns[column] + GAP_INCHES
    return figure


def _extent(view: View, plane: Plane) -> tuple[float, float]:
    spacing = np.broadcast_to(np.asarray(view.spacing_mm, np.float64), 3)
    shape = np.shape(view.image_xyz)
    return float(shape[plane.across] * spacing[plane.across]), float(shape[plane.up] * spacing[plane.up])


def three_planes(
    image_xyz: NDArray[Any],
    spacing_mm: Sequence[float] | NDArray[Any],
    index_ijk: Sequence[float] | NDArray[Any],
    *,
    overlay: NDArray[Any] | None = None,
    title: str = "",
    window: tuple[float, float] | None = None,
    crosshair: bool = True,
) -> Figure:
    """Axial, coronal and sagittal plane of one scan through a point; see `View` for the arguments.

    The patient's right lies at the left of the axial and the coronal plane, the front at the left of the sagittal one.

    Raises:
        ValueError: not three axes, or an overlay of another shape.
    """
    return rows_of([View(image_xyz, spacing_mm, index_ijk, overlay, title, window, crosshair)])


def side_by_side(query: View, key: View, *, title: str = "") -> Figure:
    """The query's planes above the key's, at one scale: the query point and its match.

    Example:
        >>> figure = side_by_side(View(a, (4, 4, 4), (10, 12, 9), title="query"), View(b, (4, 4, 4), (11, 12, 8)))
        >>> Path("match.png").write_bytes(png_of(figure))
    """
    return rows_of([query, key], title=title)


def png_of(figure: Figure, *, dpi: int = 110) -> bytes:
    """The figure as a PNG file, without metadata on its author or date; it says that it was made by this package."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": PROGRAM})
    return stream.getvalue()
