"""OHIF over a real Orthanc, opened in headless Chromium: what each DICOM object of a result looks like to a reader.

A program of its own, because Orthanc 1.10 listens on every address: `test_ohif.py` starts it in a network namespace
that reaches nothing. Prints one JSON object: for each object the words on the screen, errors, and requests elsewhere.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ORTHANC, GATEWAY = 18042, 18080
PLUGINS = ("/usr/share/orthanc/plugins/libOrthancDicomWeb.so",)
TRIES, PAUSE_S = 180, 0.5
SETTLED_S = 1.0
"""From the last words to the last pixel."""
BUSY_MS = 180_000
"""For one answer of the browser, on a machine that does much else."""
LEAST_PIXELS = 300
"""Of a color that counts as shown."""

CONFIG = """window.config = {
  routerBasename: '/', showStudyList: true, extensions: [], modes: [], showWarningMessageForCrossOrigin: false,
  investigationalUseDialog: {option: 'never'}, customizationService: [{'ohif.tours': {$set: []}}],
  defaultDataSourceName: 'dicomweb',
  dataSources: [{namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'dicomweb',
    configuration: {friendlyName: 'Orthanc', name: 'orthanc', wadoUriRoot: '/dicom-web', qidoRoot: '/dicom-web',
      wadoRoot: '/dicom-web', qidoSupportsIncludeField: false, imageRendering: 'wadors', thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true, dicomUploadEnabled: false,
      bulkDataURI: {enabled: true}}}]};
"""


class Gateway(SimpleHTTPRequestHandler):
    """OHIF's files, and Orthanc's DICOMweb under one address, as a browser wants it."""

    def __init__(self, *arguments: Any, ohif: str, **options: Any) -> None:
        super().__init__(*arguments, directory=ohif, **options)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web"):
            self._pass_on()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", CONFIG.encode())
        else:
            if not (Path(self.directory) / path.lstrip("/")).is_file():
                self.path = "/index.html"  # the viewer's own addresses
            super().do_GET()

    def _pass_on(self) -> None:
        # Addresses in Orthanc's answers are then of this gateway, or the browser would leave it.
        headers = {"Forwarded": f"host=127.0.0.1:{GATEWAY};proto=http"}
        headers |= {name: self.headers[name] for name in ("Accept", "Range") if name in self.headers}
        request = urllib.request.Request(f"http://127.0.0.1:{ORTHANC}{self.path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self._answer(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, "text/plain", error.read())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing: the report is the only thing on stdout."""


def start_orthanc(folder: Path) -> subprocess.Popen[bytes]:
    """An archive in a folder, ready when this returns."""
    config = {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "HttpPort": ORTHANC,
        "DicomServerEnabled": False, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "Plugins": list(PLUGINS), "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(config))
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise FileNotFoundError("Orthanc")
    log = (folder / "orthanc.log").open("wb")
    process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    for _ in range(TRIES):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{ORTHANC}/system", timeout=5).close()
            return process
        except OSError:
            time.sleep(PAUSE_S)
    process.terminate()
    raise TimeoutError("Orthanc does not answer")


def store(path: Path) -> None:
    """Put a file into the archive."""
    request = urllib.request.Request(f"http://127.0.0.1:{ORTHANC}/instances", data=path.read_bytes(), method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def pixels_of(screen: bytes, color: str) -> int:
    """How many pixels of a picture have a hexadecimal color, give or take what scaling does to it."""
    pixels = np.asarray(Image.open(BytesIO(screen)).convert("RGB")).astype(int)
    return int((abs(pixels - tuple(bytes.fromhex(color))).max(axis=2) <= 6).sum())


def look(page: Any, study: str, series: str, steps: list[str], picture: Path) -> dict[str, Any]:
    """Open one series of a study and wait; what stands on the screen, whether or not it came.

    Parameters
    ----------
    page
        Of the browser.
    study, series
        UIDs.
    steps
        Words to wait for, one after the other; "click=" before a button that is pressed, "color=" before a color that
        the screen must have.
    picture
        File for what the screen shows then.
    """
    address = f"http://127.0.0.1:{GATEWAY}/viewer?StudyInstanceUIDs={study}&initialSeriesInstanceUID={series}"
    page.goto(address, wait_until="commit")
    for step in steps:
        kind, _, what = step.rpartition("=")
        found = page.get_by_role("button", name=what, exact=True) if kind == "click" else page.get_by_text(what)
        for _ in range(TRIES):
            if pixels_of(page.screenshot(), what) > LEAST_PIXELS if kind == "color" else found.count():
                break
            time.sleep(PAUSE_S)
        if kind == "click" and found.count():
            found.first.click()
    time.sleep(SETTLED_S)
    page.screenshot(path=str(picture))
    return {"text": page.locator("body").inner_text(), "picture": str(picture)}


def main() -> None:
    """Store a folder of DICOM, look at the series that were named, print what was seen."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ohif", required=True, help="folder with index.html")
    parser.add_argument("--store", required=True, nargs="+", type=Path, help="folders of DICOM files")
    parser.add_argument("--look", required=True, nargs="+", help="NAME=STUDY,SERIES=STEP|STEP, see look()")
    parser.add_argument("--work", required=True, type=Path)
    options = parser.parse_args()
    orthanc = start_orthanc(options.work)
    try:
        for folder in options.store:
            for path in sorted(folder.glob("*.dcm")):
                store(path)
        server = ThreadingHTTPServer(("127.0.0.1", GATEWAY), lambda *a, **k: Gateway(*a, ohif=options.ohif, **k))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        seen: dict[str, Any] = {}
        elsewhere: list[str] = []
        errors: list[str] = []
        with sync_playwright() as play:
            browser = play.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=[
                    "--no-sandbox",
                    "--use-angle=swiftshader",
                    "--enable-unsafe-swiftshader",
                    "--ignore-gpu-blocklist",
                ],
            )
            page = browser.new_page(viewport={"width": 1500, "height": 950})
            page.set_default_timeout(BUSY_MS)
            own = (f"http://127.0.0.1:{GATEWAY}", "data:", "blob:", "chrome")  # the last is the browser's PDF viewer
            page.on("request", lambda r: None if r.url.startswith(own) else elsewhere.append(r.url))
            page.on("response", lambda r: errors.append(f"{r.status} {r.url}") if r.status >= 400 else None)
            page.on("pageerror", lambda e: errors.append(str(e)[:300]))
            for entry in options.look:
                name, places, words = entry.split("=", 2)
                study, series = places.split(",")
                seen[name] = look(page, study, series, words.split("|"), options.work / f"{name}.png")
            browser.close()
        print(json.dumps({"seen": seen, "elsewhere": elsewhere, "errors": errors}))
    finally:
        orthanc.terminate()
        orthanc.wait(timeout=30)


if __name__ == "__main__":
    main()
