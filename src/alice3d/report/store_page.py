"""Quality control page of a store: tables, distributions, outliers, and three planes of every case."""

from __future__ import annotations

import base64
import struct
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alice3d.data.store import Case, Store
from alice3d.data.store.inspection import (
    Outlier,
    by_kind,
    duplicates,
    measures,
    outliers,
    source_shape,
    source_spacing,
)
from alice3d.files import write_text
from alice3d.geometry import MIN_SPACING_MM
from alice3d.report.curves import new_figure, plain, svg_of
from alice3d.report.page import Html, Section, page, paragraph, svg_figure, table

SIDE = 84
"""Pixels per side of a thumbnail."""
CT_WINDOW = (-200.0, 300.0)
SHOWN = 200
"""Rows of a table; index.csv holds all."""
OF_KIND = 20
"""Remarks of one kind, so that a common one hides no other."""


def write_store_page(store: Store, path: Path, *, thumbnails: int = 1000) -> dict[str, Any]:
    """Write the page.

    Args:
        store: what to show.
        path: of the HTML file.
        thumbnails: of at most this many cases, sampled evenly.

    Returns:
        `cases`, `refused`, `duplicates` (groups of ids), `unusual` (case, why, and of which kind), `page`.
    """
    values = measures(store)
    found, twice = outliers(store, values), duplicates(store)
    cases = store.cases()
    spacing = " x ".join(f"{mm:g}" for mm in store.spec.spacing_mm)
    lead = f"{len(cases)} scans, {store.spec.modality.upper()}, stored at {spacing} mm; {len(store.refused)} refused."
    chosen = cases if len(cases) <= thumbnails else [cases[i] for i in _evenly(len(cases), thumbnails)]
    sections = [
        Section("splits", "Splits", [_split_table(store)]),
        Section("quality", "Quality control", _quality_parts(store, found, twice)),
        Section("spread", "Spacings, fields of view, intensities", [_distributions(values)]),
        Section("pictures", "Every case", [_views(len(chosen), len(cases)), _pictures(store, chosen, found)]),
        Section("table", "Table", [_case_table(store, cases)]),
    ]
    write_text(path, page("Store", sections, lead=lead, foot=f"Made by {store.spec.made_by}."))
    return {
        "cases": len(cases),
        "refused": len(store.refused),
        "duplicates": twice,
        "unusual": [asdict(one) for one in found],
        "page": str(path),
    }


def _evenly(count: int, wanted: int) -> list[int]:
    return [int(i) for i in np.linspace(0, count - 1, wanted)]


def _split_table(store: Store) -> Html:
    rows = []
    for split in ["", *store.splits]:
        mine = store.cases(split)
        if mine:
            structures = Counter(value for case in mine for value in case.structures)
            named = ", ".join(f"{store.label_names[value]} {count}" for value, count in sorted(structures.items())[:12])
            rows.append([split or "in no split", len(mine), sum(case.labelled for case in mine), named or "none"])
    return table(["Split", "Scans", "With labels", "Structures (in how many)"], rows)


def _quality_parts(store: Store, found: Sequence[Outlier], twice: Sequence[Sequence[str]]) -> list[Html]:
    parts = []
    if store.refused:
        rows = [[source, reason] for _, source, reason in store.refused[:SHOWN]]
        parts.append(table(["Refused", "Why"], rows, caption=_of("Refused scans", len(store.refused))))
    if twice:
        rows = []
        for group in twice[:SHOWN]:
            splits = sorted({store.case(name).split or "in no split" for name in group})
            rows.append(
                [", ".join(group), " and ".join(splits) + (": a leak between splits" if len(splits) > 1 else "")]
            )
        parts.append(table(["Duplicate scans", "Splits"], rows, caption=_of("Groups of equal voxels", len(twice))))
    if found:
        rows = []
        for kind, its in by_kind(found).items():
            rows += [[one.case, one.what] for one in its[:OF_KIND]]
            if len(its) > OF_KIND:
                rows.append([f"and {len(its) - OF_KIND} more", kind])
        parts.append(table(["Case", "Outlier or note"], rows, caption=f"Remarks: {len(found)}"))
    return parts or [paragraph("No refused scans, no duplicates, no outliers.")]


def _of(what: str, count: int) -> str:
    return f"{what}: {count}" + (f", the first {SHOWN} shown" if count > SHOWN else "")


def _distributions(values: Mapping[str, NDArray[np.float64]]) -> Html:
    """A histogram for each measure."""
    columns = 3
    rows = -(-len(values) // columns)
    figure = new_figure(9.0, 1.7 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, (name, column) in zip(axes.ravel(), values.items(), strict=False):
        low, high = float(column.min()), float(column.max())
        spread = max(high - low, abs(high) * 0.02, MIN_SPACING_MM)
        axis.hist(column, bins=30, range=(low - 0.01 * spread, low + 1.01 * spread), color="#2f7fd1")
        axis.set_title(name, fontsize=8)
        plain(axis)
    for axis in axes.ravel()[len(values) :]:
        axis.set_visible(False)
    return svg_figure(
        svg_of(figure, name="spread", alt="Histograms over the cases"), caption="Number of cases at each value."
    )


def _views(shown: int, count: int) -> Html:
    text = (
        "Seen from the patient's left, from the front, from below; the patient's right is at the left of the picture. "
        "Each plane fills its square."
    )
    return paragraph(text if shown == count else f"{text} {shown} of {count} cases, sampled evenly.", kind="note")


def _pictures(store: Store, cases: Sequence[Case], found: Sequence[Outlier]) -> Html:
    marked = {one.case for its in by_kind(found).values() for one in its[:OF_KIND]}
    figures = []
    for case in cases:
        data = base64.b64encode(png_of_grey(thumbnail(store, case))).decode("ascii")
        name = escape(case.id) + (" (see above)" if case.id in marked else "")
        figures.append(
            f'<figure style="display:inline-block;margin:4px"><img loading="lazy" width="{3 * SIDE}" height="{SIDE}" '
            f'src="data:image/png;base64,{data}" alt="{name}: three planes">'
            f'<figcaption style="font-size:11px">{name}</figcaption></figure>'
        )
    return Html("".join(figures))


def thumbnail(store: Store, case: Case) -> NDArray[np.uint8]:
    """Sagittal, coronal and axial plane through the centre of the body, side by side: (SIDE, 3 SIDE) grey."""
    middle = np.clip(np.round(case.grid.index(np.mean(case.body_box_mm, axis=0))), 0, np.array(case.shape) - 1).astype(
        int
    )
    low, high = CT_WINDOW if store.spec.modality == "ct" else (case.stats["p005"], case.stats["p995"])
    extent = np.array(case.shape) * case.spacing_mm
    handle = store.image(case.id)
    strip = np.zeros((SIDE, 3 * SIDE), np.uint8)
    for place in range(3):
        box = [slice(None)] * 3
        box[place] = slice(int(middle[place]), int(middle[place]) + 1)
        plane = np.squeeze(np.asarray(handle[tuple(box)], np.float32), axis=place).T[
            ::-1
        ]  # the upper or front end on top
        across, up = (axis for axis in range(3) if axis != place)
        plane = plane[:, ::-1]  # R at the left, and A at the left in the sagittal plane
        scale = max(extent[across], extent[up]) / SIDE
        size = [max(round(float(extent[axis] / scale)), 1) for axis in (up, across)]
        rows = (np.arange(size[0]) * plane.shape[0] / size[0]).astype(int)
        columns = (np.arange(size[1]) * plane.shape[1] / size[1]).astype(int)
        grey = np.clip((plane[np.ix_(rows, columns)] - low) / max(high - low, 1e-6), 0, 1) * 255
        top, left = (SIDE - size[0]) // 2, place * SIDE + (SIDE - size[1]) // 2
        strip[top : top + size[0], left : left + size[1]] = grey.astype(np.uint8)
    return strip


def png_of_grey(image: NDArray[np.uint8]) -> bytes:
    """A PNG of (rows, columns) grey values, without any text in it."""
    height, width = image.shape
    lines = b"".join(b"\0" + line.tobytes() for line in np.ascontiguousarray(image))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


def _case_table(store: Store, cases: Sequence[Case]) -> Html:
    rows = []
    for case in cases[:SHOWN]:
        spacing = " x ".join(f"{mm:.3g}" for mm in source_spacing(store, case))
        shape = " x ".join(map(str, source_shape(store, case)))
        stored = " x ".join(map(str, case.shape))
        span = f"{case.stats['p005']:.4g} to {case.stats['p995']:.4g}"
        rows.append([case.id, case.split, spacing, shape, stored, span, " ".join(map(str, case.structures)) or None])
    headers = ["Case", "Split", "Spacing (mm)", "Voxels R x A x S", "Stored", "0.5 to 99.5 %", "Structures"]
    return table(headers, rows, caption=_of("Cases", len(cases)))
