"""Find one point of a scan in another scan, with its confidence and a picture of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from alice3d import console
from alice3d.config import ComputeConfig, Reads, ScanFilesConfig, Writes
from alice3d.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alice3d.matching import EmbeddedScan, Matcher
    from alice3d.report.planes import View

FEW_AGREE = 0.35
"""Below this inlier fraction two scans hardly show the same anatomy; as `matching.landmarks.SAME_ANATOMY`."""


class MatchConfig(ScanFilesConfig, ComputeConfig):
    """`alice match MATCHER QUERY KEY --point X,Y,Z`."""

    positional: ClassVar[tuple[str, ...]] = ("matcher", "query", "key")
    matcher: Annotated[str, Reads()]
    """Matcher: a folder or file of `alice train-matcher`, or the name of a shipped one."""
    query: Annotated[str, Reads()]
    """Scan in which the point is given: a file, or a case id where `--store` is given."""
    key: Annotated[str, Reads()]
    """Scan in which it is looked for: a file, or a case id where `--store` is given."""
    point: tuple[float, float, float]
    """X,Y,Z of the point in the query scan, RAS mm (as 3D Slicer shows; ITK-SNAP and DICOM negate x and y)."""
    store: Annotated[Path | None, Reads()] = None
    """Store in which query and key are case ids."""
    mode: Literal["card", "direct", "robust"] = "card"
    """direct: the point by itself; robust: with a fit over many points; card: as the matcher's card says."""
    picture: Annotated[str, Writes(file=True)] = "match.png"
    """PNG to write: three planes of both scans through the points; empty writes none."""


def run(config: MatchConfig) -> dict[str, Any]:
    """Match one point; returns the keys of `--json`."""
    import numpy as np

    from alice3d.device import resolve_device
    from alice3d.matching import Matcher

    matcher = Matcher.load(config.matcher, device=resolve_device(config.device, config.threads))
    if config.mode != "card":
        matcher.mode = config.mode
    query, key = _embedded(matcher, config)
    point = np.array(config.point, np.float64)
    _check_point(point, query, Path(config.query).name)
    found = matcher.match(query, key, point[None])
    place = found.point_mm[0]
    result = {
        "point_ras_mm": [round(float(mm), 2) for mm in place],
        "similarity": float(found.similarity[0]),
        "cycle_mm": float(found.cycle_mm[0]),
        "accepted": bool(found.accepted[0]) and (found.agreement is None or found.agreement >= FEW_AGREE),
        "agreement": found.agreement,
    }
    if matcher.confidence.models:
        result["expected_error_mm"] = round(float(found.expected_mm[0]), 1)
        result["chance_above_10mm"] = round(float(found.far_10mm[0]), 3)
        result["chance_above_20mm"] = round(float(found.far_20mm[0]), 3)
    if config.picture:
        _draw(config, matcher, point, place)
        result["picture"] = config.picture
    _say(config, result)
    return result


def _embedded(matcher: Matcher, config: MatchConfig) -> list[EmbeddedScan]:
    """Files, or cases of the store; prints the spacing where they are resampled."""
    names, store_path = (config.query, config.key), config.store
    if store_path is None:
        embedded = [matcher.embed_file(name, unoriented=config.unoriented) for name in names]
        spacing = " x ".join(f"{mm:g}" for mm in matcher.spacing_mm)
        console.say(f"Both scans are read at the matcher's {spacing} mm, whatever their own spacing.")
        return embedded
    from alice3d.data.store import Store

    store = Store.open(store_path)
    if note := matcher.reading_note(store):
        console.say(note)
    return [matcher.embed_case(store, store.case(name)) for name in names]


def _check_point(point: NDArray[np.float64], scan: EmbeddedScan, name: str) -> None:
    """Refuse a point outside the scan or in air."""
    import numpy as np

    shown = ",".join(f"{mm:g}" for mm in point)
    if not np.isfinite(point).all():
        raise UserError(f"--point {shown}: three finite numbers are needed")
    if scan.in_body(point[None])[0]:
        return
    hint = ""
    if scan.in_body((point * [-1, -1, 1])[None])[0]:
        hint = "; with x and y negated it lies in the body: is it LPS?"
    low, high = np.asarray(scan.body_box_mm)
    box = ", ".join(f"{axis} {a:.0f} to {b:.0f}" for axis, a, b in zip("xyz", low, high, strict=True))
    where = "in air" if ((point >= low) & (point <= high)).all() else "outside the body"
    raise UserError(f"--point {shown}: lies {where} of {name}, whose body spans {box} mm (RAS){hint}")


def _say(config: MatchConfig, result: dict[str, Any]) -> None:
    """Print the result."""
    place = ", ".join(f"{mm:.1f}" for mm in result["point_ras_mm"])
    word = "accepted" if result["accepted"] else "not accepted: do not rely on it"
    console.say(
        f"Matched point: {place} mm (RAS) in {Path(config.key).name}; similarity {result['similarity']:.2f}, "
        f"cycle error {result['cycle_mm']:.1f} mm; {word}."
    )
    if "expected_error_mm" in result:
        console.say(
            f"Expected error {result['expected_error_mm']:.0f} mm; probability of an error above 10 mm "
            f"{result['chance_above_10mm']:.0%}, above 20 mm {result['chance_above_20mm']:.0%}."
        )
    if result["agreement"] is not None and result["agreement"] < FEW_AGREE:
        console.warn(
            f"inlier fraction only {result['agreement']:.0%} (points that agree on one map between the scans): they "
            "hardly show the same anatomy, the match is unreliable"
        )
    if "picture" in result:
        console.say(f"Picture written to {result['picture']}.")


def _view(config: MatchConfig, matcher: Matcher, name: str, point: Any, title: str) -> View:
    """A scan at its stored spacing, or for a file at 1.5 mm or coarser, and the point in it."""
    from alice3d.report.planes import CT_WINDOW, View

    window = CT_WINDOW if matcher.rule.modality == "ct" else None
    if config.store is not None:
        from alice3d.data.store import Store

        store = Store.open(config.store)
        case = store.case(name)
        return View(store.image(name)[:, :, :], case.spacing_mm, case.grid.index(point), None, title, window)
    from alice3d.data.preprocessing.preprocess import prepare_array
    from alice3d.io.read import read_scan

    volume = read_scan(name, unoriented=config.unoriented)
    scan = prepare_array(volume, spacing_mm=1.5, modality=matcher.rule.modality, name=Path(name).name)
    return View(scan.image, scan.grid.spacing_mm, scan.grid.index(point), None, title, window)


def _draw(config: MatchConfig, matcher: Matcher, point: Any, place: Any) -> None:
    """Three planes of both scans."""
    from alice3d.files import write_bytes
    from alice3d.report.planes import png_of, side_by_side

    views = [
        _view(config, matcher, name, at, f"{Path(name).name}: {word}")
        for name, at, word in ((config.query, point, "query point"), (config.key, place, "match"))
    ]
    try:
        write_bytes(Path(config.picture), png_of(side_by_side(*views)))
    except OSError as error:
        raise UserError(f"--picture {config.picture}: cannot be written ({error.strerror})") from None
