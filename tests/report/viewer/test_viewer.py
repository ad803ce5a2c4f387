"""The page of two scans: what its server answers and refuses, and in a real browser a click that moves the other."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from place_net import CARD, MOVE, PlaceNet, scan_of

from alice3d.errors import UserError
from alice3d.geometry import apply_affine
from alice3d.matching.memory_cache import RememberingMatcher
from alice3d.report.planes import PLANES, slice_of
from alice3d.report.viewer.server import ShownScan, Viewer, ViewerServer

TITLES = ("query <b>", "key")


@pytest.fixture(scope="module")
def server():
    matcher = RememberingMatcher(PlaceNet(), CARD, "place")
    scans = (
        scan_of(np.eye(4), (48, 36, 42), (-96.0, -72.0, -84.0), "query"),
        scan_of(np.linalg.inv(MOVE), (52, 38, 44), (-96.0, -88.0, -70.0), "key"),
    )
    shown = [
        ShownScan(title, np.where(scan.body, 40 * scan.image[0] / 80, -1000.0), scan.grid, matcher.embed(scan))
        for title, scan in zip(TITLES, scans, strict=True)
    ]
    made = ViewerServer(Viewer(matcher, shown, ct=True))
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def get(server, path: str, *, host: str | None = None, token: str | None = None, method: str = "GET"):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request(
        method, f"/{server.token if token is None else token}/{path}", headers={"Host": host} if host else {}
    )
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_nothing_is_printed_of_clients_that_leave_and_of_bad_addresses(server, capfd):
    def sent(text: bytes, *, leave: bool) -> bytes:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as client:
            client.sendall(text)
            if leave:  # at once, with a reset
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return b""
            return client.recv(100)

    host = f"Host: 127.0.0.1:{server.server_port}\r\n\r\n"
    for number in range(20):
        path = f"/{server.token}/slice/0/sagittal/{number}?low=-200&high=300"
        sent(f"GET {path} HTTP/1.0\r\n{host}".encode(), leave=True)
    addresses = ["http://[", "//[::1", "\xff\xfe", f"/{server.token}/slice/0/axial/1?low=1e308&high=-1e308"]
    addresses += [
        f"/{server.token}/match?scan=0&x=1e300&y=0&z=0",
        f"/{server.token}/slice/0/axial/{'9' * 5000}?low=0&high=1",
    ]
    for address in addresses:
        assert b" 404 " in sent(f"GET {address} HTTP/1.0\r\n{host}".encode("latin-1"), leave=False)
    for request in (b"\x00\x01\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        sent(request, leave=False)
    assert get(server, "scans")[0].status == 200
    assert capfd.readouterr().err == ""


def test_the_page_is_whole_and_shut_off(server):
    answer, body = get(server, "")
    assert answer.status == 200
    policy = answer.getheader("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy
    text = body.decode()
    assert "query &lt;b&gt;" in text
    assert "http" not in text.replace("<!doctype html>", "")  # nothing from elsewhere
    for name in re.findall(r'(?:src|href)="([^"]+)"', text):
        answer, body = get(server, name)
        assert answer.status == 200
        assert b"//" not in re.sub(rb"(?m)^\s*//.*$|; // .*$", b"", body)
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 32


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("", {"token": "guess"}, 404),
        ("", {"token": ""}, 404),
        ("scans", {"host": "evil.example"}, 404),
        ("scans", {"method": "POST"}, 501),
        ("../../etc/passwd", {}, 404),
        ("slice/0/axial/9999?low=0&high=1", {}, 404),
        ("slice/2/axial/1?low=0&high=1", {}, 404),
        ("slice/0/oblique/1?low=0&high=1", {}, 404),
        ("slice/0/axial/1?low=nan&high=1", {}, 404),
        ("slice/0/axial/1", {}, 404),
        ("match?scan=0&x=1&y=2", {}, 404),
        ("match?scan=0&x=1&y=2&z=inf", {}, 404),
    ],
)
def test_what_is_not_for_others_is_not_found(server, path, options, status):
    assert get(server, path, **options)[0].status == status


def test_slices_are_the_voxels_as_they_lie_on_the_page(server):
    image = server.viewer.scans[0].image
    for plane in PLANES:
        index = image.shape[plane.through] // 2
        body = get(server, f"slice/0/{plane.name}/{index}?low=-50&high=50")[1]
        picture = np.frombuffer(body, np.uint8).reshape(image.shape[plane.up], image.shape[plane.across])
        expected = np.clip((slice_of(image, plane, index) + 50) / 100, 0, 1) * 255
        np.testing.assert_allclose(picture, expected, atol=1)


def test_a_point_is_matched_in_both_directions(server):
    about = json.loads(get(server, "scans")[1])
    assert [scan["title"] for scan in about["scans"]] == list(TITLES)
    assert about["scans"][0]["spacing_mm"] == [4, 4, 4]
    point = np.array([20.0, 10.0, -15.0])
    there = apply_affine(MOVE, point)
    for scan, given, true in ((0, point, there), (1, there, point)):
        query = "&".join(f"{axis}={mm}" for axis, mm in zip("xyz", given, strict=True))
        found = json.loads(get(server, f"match?scan={scan}&{query}")[1])
        assert found["inside"]
        assert np.linalg.norm(np.array(found["point_ras_mm"]) - true) < 4
        assert set(found) >= {"similarity", "cycle_mm", "certainty", "accepted"}
    assert json.loads(get(server, "match?scan=0&x=94&y=-70&z=80")[1]) == {"inside": False}


def test_a_taken_port_is_named(server):
    with pytest.raises(UserError, match=f"--port {server.server_port}: cannot be used"):
        ViewerServer(server.viewer, server.server_port)


class Browser:
    """Headless Chromium by WebDriver, as far as this test needs it (https://www.w3.org/TR/webdriver2)."""

    def __init__(self, driver: str, chromium: str, profile: Path) -> None:
        self.process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        said = ""
        while "on port" not in said or "successfully" not in said:
            line = self.process.stdout.readline()
            assert line, "chromedriver ended"
            said += line
        port = re.findall(r"on port (\d+)", said)[-1]
        self.address = f"http://127.0.0.1:{port}"
        flags = (
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--window-size=1200,1000", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
        )  # fmt: skip
        options = {"args": flags, "binary": chromium}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        self.session = self.call("session", {"capabilities": wanted})["sessionId"]

    def call(self, path: str, content: dict | None = None, method: str | None = None):
        data = json.dumps(content).encode() if content is not None else None
        request = urllib.request.Request(f"{self.address}/{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def run(self, script: str):
        return self.call(f"session/{self.session}/execute/sync", {"script": script, "args": []})

    def until(self, script: str):
        for _ in range(300):
            value = self.run(script)
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"never true: {script}")

    def close(self) -> None:
        try:
            self.call(f"session/{self.session}", method="DELETE")
        finally:
            self.process.terminate()
            self.process.wait(30)


@pytest.mark.slow
def test_a_click_moves_the_other_cross_hair(server, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium and ChromeDriver are not installed")
    browser = Browser(driver, chromium, tmp_path / "profile")
    try:
        session = f"session/{browser.session}"
        browser.call(f"{session}/url", {"url": server.url})
        browser.until("return document.body.dataset.answered === '1'")
        before = browser.run("return document.body.dataset.point1")
        # A real pointer press, up and left of the middle of the axial plane: towards the right and the front.
        element = browser.call(f"{session}/element", {"using": "css selector", "value": "#axial-0"})
        move = {"type": "pointerMove", "duration": 0, "x": -30, "y": -20, "origin": element}
        press = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        browser.call(f"{session}/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": press}]})
        browser.until("return Number(document.body.dataset.answered) > 1")
        clicked, found = (
            np.array([float(mm) for mm in browser.run(f"return document.body.dataset.point{n}").split(",")])
            for n in (0, 1)
        )
        assert browser.run("return document.body.dataset.point1") != before
        middle = np.mean(server.viewer.scans[0].embedded.body_box_mm, axis=0)
        assert clicked[0] > middle[0] + 5
        assert clicked[1] > middle[1] + 3
        assert clicked[2] == pytest.approx(middle[2], abs=0.1)
        assert np.linalg.norm(found - apply_affine(MOVE, clicked)) < 5
        assert "mm in key" in browser.run("return document.getElementById('answer').textContent")
        grey = (
            "const c = document.getElementById('axial-1');"
            "const pixels = Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data);"
            "return pixels.filter((value, n) => n % 4 === 0 && value > 20).length"
        )
        assert browser.run(grey) > 1000
        # From the lower scan to the upper one, by the keyboard.
        count = int(browser.run("return document.body.dataset.answered"))
        browser.run("document.getElementById('coronal-1').focus()")
        key = [{"type": "keyDown", "value": "\ue00e"}, {"type": "keyUp", "value": "\ue00e"}]
        browser.call(f"{session}/actions", {"actions": [{"type": "key", "id": "keys", "actions": key}]})
        browser.until(f"return Number(document.body.dataset.answered) > {count}")
        moved = np.array([float(mm) for mm in browser.run("return document.body.dataset.point0").split(",")])
        assert not np.allclose(moved, clicked)
        severe = [line for line in browser.call(f"{session}/se/log", {"type": "browser"}) if line["level"] == "SEVERE"]
        assert [line for line in severe if "favicon" not in line["message"]] == []
        if folder := os.environ.get("ALICE_SCREENSHOTS"):
            import base64

            Path(folder, "viewer.png").write_bytes(base64.b64decode(browser.call(f"{session}/screenshot")))
    finally:
        browser.close()
