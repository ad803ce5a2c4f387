"""Show two scans side by side in the browser; a click in one finds the same anatomy in the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from alice3d import console
from alice3d.config import ComputeConfig, Reads, ScanFilesConfig

if TYPE_CHECKING:
    from alice3d.matching import Matcher
    from alice3d.report.viewer.server import ShownScan, ViewerServer

MAX_SHOWN_VOXELS = 40_000_000
"""Larger scans are shown at a coarser spacing."""


class ViewConfig(ScanFilesConfig, ComputeConfig):
    """`alice view QUERY --with KEY --matcher M`."""

    positional: ClassVar[tuple[str, ...]] = ("query",)
    query: Annotated[str, Reads()]
    """Scan shown at the top: a file, or a case id where `--store` is given."""
    with_: Annotated[str, Reads()]
    """Scan shown below it: a file, or a case id where `--store` is given."""
    matcher: Annotated[str, Reads()]
    """Matcher: a folder or file of `alice train-matcher`, or the name of a shipped one."""
    store: Annotated[Path | None, Reads()] = None
    """Store in which the scans are case ids."""
    mode: Literal["card", "direct", "robust"] = "card"
    """direct: each point by itself; robust: with a fit over many points; card: as the matcher's card says."""
    spacing: Annotated[float, Field(gt=0, le=20)] = 1.5
    """Voxel size in mm at which files are shown; matching does not depend on it."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port on the loopback address 127.0.0.1; 0 = a free one."""
    browser: bool = True
    """Open the page in the browser; without it only the address is printed."""


def run(config: ViewConfig) -> dict[str, Any]:
    """Serve the page until Ctrl-C."""
    import webbrowser

    server = serve(config)
    console.say(f"Open {server.url} (this machine only). Ctrl-C ends.")
    if config.browser and not webbrowser.open(server.url):
        console.warn("no browser could be opened; copy the address into one")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        console.say("Ended.")
    finally:
        server.server_close()
    return {"url": server.url}


def serve(config: ViewConfig) -> ViewerServer:
    """Read and embed both scans, and open the port; `serve_forever` of the result serves the page."""
    from alice3d.device import resolve_device
    from alice3d.matching.memory_cache import RememberingMatcher
    from alice3d.report.viewer.server import Viewer, ViewerServer

    matcher = RememberingMatcher.load(config.matcher, device=resolve_device(config.device, config.threads))
    if config.mode != "card":
        matcher.mode = config.mode
    scans = [_shown(config, matcher, name) for name in (config.query, config.with_)]
    # Fitted before the page opens, in both directions, so that the first clicks are fast.
    if matcher.mode == "robust":
        first, second = (scan.embedded for scan in scans)
        agreement = [matcher.fit(*pair).agreement for pair in ((first, second), (second, first))]
        _warn_of_other_anatomy(max(agreement))
    return ViewerServer(Viewer(matcher, scans, ct=matcher.rule.modality == "ct"), config.port)


def _warn_of_other_anatomy(agreement: float) -> None:
    from alice3d.matching.landmarks import SAME_ANATOMY

    if agreement < SAME_ANATOMY:
        console.warn(
            f"inlier fraction only {agreement:.0%} (points that agree on one map between the scans): they hardly "
            "show the same anatomy"
        )


def _shown(config: ViewConfig, matcher: Matcher, name: str) -> ShownScan:
    """A case of the store as it is stored, or a file at a spacing that the page can hold."""
    from alice3d.report.viewer.server import ShownScan

    if config.store is not None:
        from alice3d.data.store import Store

        store = Store.open(config.store)
        case = store.case(name)
        return ShownScan(case.id, store.image(case.id)[:, :, :], case.grid, matcher.embed_case(store, case))
    import numpy as np

    from alice3d.api.matching import embed
    from alice3d.data.preprocessing.preprocess import prepare_array
    from alice3d.geometry import spacing_of
    from alice3d.io.read import case_id, read_scan

    path = Path(name)
    volume = read_scan(path, unoriented=config.unoriented)
    size_mm3 = float(np.prod(spacing_of(volume.affine) * volume.array.shape))
    spacing = max(config.spacing, (size_mm3 / MAX_SHOWN_VOXELS) ** (1 / 3))
    shown = prepare_array(volume, spacing_mm=spacing, modality=matcher.rule.modality, name=path.name)
    return ShownScan(case_id(path), shown.image, shown.grid, embed(matcher, volume))
