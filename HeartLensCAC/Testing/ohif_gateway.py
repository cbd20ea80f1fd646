"""OHIF over a real Orthanc, opened in headless Chromium: what each DICOM object of a result looks like to a reader."""

from __future__ import annotations

import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from orthanc_archive import WEB
from PIL import Image

OHIF = Path(__file__).resolve().parents[2] / ".ohif" / "package" / "dist"
"""Where `make pacs` puts it: npm pack @ohif/app@3.13.2, unpacked."""

GATEWAY = 18080
OWN = (f"http://127.0.0.1:{GATEWAY}", "data:", "blob:", "chrome")
"""Addresses that lead nowhere else; the last is the browser's PDF viewer."""

FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
TRIES, PAUSE_S = 180, 0.5
SETTLED_S = 1.0
"""From the last words to the last pixel."""
BUSY_MS = 180_000
"""For one answer of the browser, on a machine that does much else."""
LEAST_PIXELS = 100
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
        request = urllib.request.Request(f"{WEB}{self.path}", headers=headers)
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


def pixels_of(screen: bytes, color: str) -> int:
    """How many pixels of a picture have a hexadecimal color, give or take what scaling does to it."""
    pixels = np.asarray(Image.open(BytesIO(screen)).convert("RGB")).astype(int)
    return int((abs(pixels - tuple(bytes.fromhex(color))).max(axis=2) <= 6).sum())


class Viewer:
    """OHIF in headless Chromium, over the archive that runs.

    Parameters
    ----------
    ohif : folder with its index.html
    pictures : folder for what the screen shows

    Attributes
    ----------
    elsewhere : addresses outside that something asked for
    errors : answers of 400 and more, and errors of the pages
    """

    def __init__(self, ohif: Path, pictures: Path) -> None:
        self.ohif, self.pictures = ohif, pictures
        self.elsewhere: list[str] = []
        self.errors: list[str] = []

    def __enter__(self) -> Viewer:
        from playwright.sync_api import sync_playwright

        gateway = partial(Gateway, ohif=str(self.ohif))
        self._server = ThreadingHTTPServer(("127.0.0.1", GATEWAY), gateway)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._play = sync_playwright().start()
        self._browser = self._play.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        self._page = self._browser.new_page(viewport={"width": 1500, "height": 950})
        self._page.set_default_timeout(BUSY_MS)
        self._page.on("request", lambda r: None if r.url.startswith(OWN) else self.elsewhere.append(r.url))
        self._page.on("response", lambda r: self.errors.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        self._page.on("pageerror", lambda e: self.errors.append(str(e)[:300]))
        return self

    def __exit__(self, *_error: object) -> None:
        self._browser.close()
        self._play.stop()
        self._server.shutdown()
        self._server.server_close()

    def look(self, name: str, study: str, series: str, steps: Sequence[str]) -> dict[str, Any]:
        """Open one series of a study and wait; what stands on the screen, whether or not it came.

        Parameters
        ----------
        name : of the picture
        study, series : UIDs; "" opens the study as the viewer does
        steps : words to wait for, one after the other; "click=" before a button that is pressed, "color=" before a
            color that the screen must have
        """
        place = f"&initialSeriesInstanceUID={series}" if series else ""
        page, picture = self._page, self.pictures / f"{name}.png"
        page.goto(f"http://127.0.0.1:{GATEWAY}/viewer?StudyInstanceUIDs={study}{place}", wait_until="commit")
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
