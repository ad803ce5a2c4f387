"""A local page that shows two scans side by side; a click in one moves the crosshair in the other."""

from __future__ import annotations

import html
import json
import secrets
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray

from alice3d import console
from alice3d.errors import UserError
from alice3d.geometry import Grid
from alice3d.matching import EmbeddedScan, Matcher
from alice3d.matching.landmarks import SAME_ANATOMY
from alice3d.report.planes import PLANES, grey, slice_of, window_of

HERE = Path(__file__).parent
LOOPBACK = "127.0.0.1"
CT_WINDOWS = (("soft tissue", -200.0, 300.0), ("bone", -500.0, 1500.0), ("lung", -1350.0, 150.0))
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
FARTHEST = 1e6
"""No position in mm and no value of a window reaches it."""
HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, eq=False)
class ShownScan:
    """A scan on the page.

    Attributes:
        title: shown above it.
        image: (x, y, z) voxels, axes R, A, S.
        grid: of the voxels; its axes are R, A, S.
        embedded: its embedding.
    """

    title: str
    image: NDArray[Any]
    grid: Grid
    embedded: EmbeddedScan


class Viewer:
    """Answers the requests of the page; one matching at a time, slices by several threads.

    Args:
        matcher: a `RememberingMatcher` makes later clicks fast.
        scans: the two.
        ct: offer windows in HU; otherwise one by percentiles.
    """

    def __init__(self, matcher: Matcher, scans: Sequence[ShownScan], *, ct: bool) -> None:
        self.matcher, self.scans = matcher, tuple(scans)
        self.windows = CT_WINDOWS if ct else (("1st to 99th percentile", *window_of(self.scans[0].image)),)
        self._one_at_a_time = threading.Lock()

    def about(self) -> dict[str, Any]:
        """Titles, grids, first points and windows."""
        scans = [
            {
                "title": scan.title,
                "shape": [int(n) for n in scan.image.shape],
                "spacing_mm": [float(mm) for mm in scan.grid.spacing_mm],
                "origin_mm": [float(mm) for mm in scan.grid.affine[:3, 3]],
                "point": [float(mm) for mm in np.mean(scan.embedded.body_box_mm, axis=0)],
            }
            for scan in self.scans
        ]
        return {"scans": scans, "windows": [{"name": n, "low": a, "high": b} for n, a, b in self.windows]}

    def slice(self, number: int, plane: str, index: int, window: tuple[float, float]) -> bytes:
        """One plane as it is shown on the page, one byte per voxel, row by row from the top.

        Raises:
            KeyError, IndexError: no such scan, plane or slice.
        """
        image, chosen = self.scans[number].image, {one.name: one for one in PLANES}[plane]
        if not 0 <= index < image.shape[chosen.through]:
            raise IndexError(index)
        return (grey(slice_of(image, chosen, index), window) * 255).round().astype(np.uint8).tobytes()

    def match(self, number: int, point_mm: Sequence[float]) -> dict[str, Any]:
        """Where a point of scan `number` lies in the other; `inside` False, and no match, where it lies in air."""
        query, key = self.scans[number].embedded, self.scans[1 - number].embedded
        point = np.array([point_mm], np.float64)
        if not query.in_body(point)[0]:
            return {"inside": False}
        with self._one_at_a_time:
            found = self.matcher.match(query, key, point)
        certainty, expected = float(found.certainty[0]), float(found.expected_mm[0])
        same = None if found.agreement is None else found.agreement >= SAME_ANATOMY
        return {
            "inside": True,
            "point_ras_mm": [round(float(mm), 2) for mm in found.point_mm[0]],
            "similarity": float(found.similarity[0]),
            "cycle_mm": float(found.cycle_mm[0]),
            "certainty": certainty if np.isfinite(certainty) else None,
            "expected_error_mm": expected if np.isfinite(expected) else None,
            "accepted": bool(found.accepted[0]) and same is not False,
            "same_anatomy": same,
        }


def page(titles: Sequence[str]) -> str:
    """The page; everything else is loaded from the same address."""
    rows = "".join(
        f'<section aria-labelledby="title-{n}"><h2><span id="title-{n}">{html.escape(title)}</span>: '
        f'<span id="place-{n}"></span></h2><div class="planes" id="planes-{n}"></div></section>\n'
        for n, title in enumerate(titles)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>alice view</title><link rel="stylesheet" href="viewer.css"></head><body>
<header><h1>The same anatomy in two scans</h1>
<form id="go"><label>Point in the upper scan, RAS mm <input id="point" placeholder="x, y, z"></label>
<button>Go</button></form>
<label>Window <select id="window"></select></label></header>
<div id="answer" role="status" aria-live="polite"></div>
{rows}<footer>Click or drag in either scan: the crosshair of the other follows. Wheel or page up and down: next slice.
Arrow keys: one voxel. A dashed crosshair: match not accepted. Not for clinical use.</footer>
<script src="viewer.js"></script></body></html>
"""


class ViewerServer(ThreadingHTTPServer):
    """Serves a viewer on the loopback address only, under an address with a random token.

    >>> server = ViewerServer(viewer)   # doctest: +SKIP
    >>> server.serve_forever()          # doctest: +SKIP

    Args:
        viewer: answers the requests.
        port: 0 uses a free one.

    Raises:
        UserError: the port is in use.
    """

    daemon_threads = True

    def __init__(self, viewer: Viewer, port: int = 0) -> None:
        self.viewer, self.token = viewer, secrets.token_urlsafe(24)
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"--port {port}: cannot be used ({getattr(error, 'strerror', None) or error})") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing of a client that has left; of any other error its type, since its words may name a patient."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, (OSError, ValueError)):
            console.warn(f"a request of the page failed: {type(error).__name__}")

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{LOOPBACK}:{self.server_port}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    """GET only; requests without the token, or with another host name, get 404."""

    server: ViewerServer
    server_version, sys_version = "alice", ""

    def do_GET(self) -> None:
        try:
            address = urlsplit(self.path)
        except ValueError:  # no address at all
            self._send(404, "text/plain", b"not found")
            return
        _, token, *parts = [*address.path.split("/"), "", ""]
        hosts = {f"{name}:{self.server.server_port}" for name in (LOOPBACK, "localhost")}
        known = secrets.compare_digest(token.encode(), self.server.token.encode())
        if not known or self.headers.get("Host") not in hosts:
            self._send(404, "text/plain", b"not found")
            return
        try:
            self._answer([part for part in parts if part], parse_qs(address.query))
        except ConnectionError:
            raise  # the client has left; an OSError of another kind is one of the page
        except (KeyError, IndexError, ValueError):
            self._send(404, "text/plain", b"not found")
        except UserError as error:
            self._send_json({"error": str(error)}, 500)

    def _answer(self, parts: list[str], query: dict[str, list[str]]) -> None:
        """Send the requested content.

        Raises:
            KeyError, IndexError, ValueError: there is no such thing.
        """
        viewer = self.server.viewer

        def number(name: str) -> float:
            value = float(query[name][0])
            if not abs(value) < FARTHEST:
                raise ValueError(name)
            return value

        match parts:
            case []:
                self._send(200, "text/html; charset=utf-8", page([scan.title for scan in viewer.scans]).encode())
            case ["viewer.js"]:
                self._send(200, "text/javascript; charset=utf-8", (HERE / "viewer.js").read_bytes())
            case ["viewer.css"]:
                self._send(200, "text/css; charset=utf-8", (HERE / "viewer.css").read_bytes())
            case ["scans"]:
                self._send_json(viewer.about())
            case ["slice", scan, plane, index]:
                window = number("low"), number("high")
                self._send(200, "application/octet-stream", viewer.slice(_which(scan), plane, int(index), window))
            case ["match"]:
                self._send_json(viewer.match(_which(query["scan"][0]), [number(axis) for axis in "xyz"]))
            case _:
                raise KeyError(parts[0])

    def _send_json(self, content: dict[str, Any], code: int = 200) -> None:
        self._send(code, "application/json", json.dumps(content, allow_nan=False).encode())

    def _send(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the terminal belongs to the command."""


def _which(text: str) -> int:
    """0 or 1.

    Raises:
        ValueError: anything else.
    """
    if text not in ("0", "1"):
        raise ValueError(text)
    return int(text)
