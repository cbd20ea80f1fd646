"""A case in one file: opened in a real Chromium as a file, without a server and without a network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from plain_scoring import plain_score
from viewer.page import Reader
from viewer.reviewed_chest import LAD, NAME, RCA, hu

from heartlens.__main__ import main
from heartlens.case.folder import load_case
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.viewer.copied import part, write
from heartlens.viewer.copied.page import copied_page
from heartlens.viewer.copied.write import write_copy

EDITING = "[data-edits], button[data-tool], #undo, #redo, #arteries, #sign, #export, .give, .keep, input:not([type])"
"""What changes a case on the page with a server."""


def opened(browser, path: Path, **options) -> Reader:
    """A reader before a file."""
    return Reader(browser, SimpleNamespace(address=path.as_uri(), base=path.as_uri()), **options)


def answers_of(path: Path) -> dict:
    found = re.search(r'<script type="application/json" id="copied-case">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found[1])


def scored_from(path: Path) -> dict[str, float]:
    """Agatston of the arteries that a file shows, of the voxels and outlines in it, by a scorer that is not ours."""
    state, shape = answers_of(path)["state"], answers_of(path)["scan"]["shape"]
    packed = re.search(r'<script type="text/plain" id="copied-voxels">(.*?)</script>', path.read_text())[1]
    voxels = np.frombuffer(gzip.decompress(base64.b64decode(packed)), "<i2").reshape(shape)
    codes = np.zeros(voxels.size, np.uint8)
    for start, length, lesion in zip(*(state["runs"][n::3] for n in range(3)), strict=True):
        codes[start : start + length] = Artery[state["arteries"][str(lesion)]]
    out, *_ = plain_score(
        voxels.tolist(), codes.reshape(shape).tolist(), pixel_area=25.0, increment=3.0, edges=(130, 200, 300, 400),
        min_area=1.0, min_pixels=1, connectivity=4, k_factor=1.0, mass_factor=0.0,
    )  # fmt: skip
    return {artery.name: out[artery]["agatston"] for artery in Artery if out[artery]["agatston"]}


def digest_of(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def copy(case, tmp_path) -> Path:
    """Made by the command, as a teacher makes it."""
    path = tmp_path / "copy.html"
    assert main(["review", str(case), "--export-html", str(path)]) == 0
    return path


@pytest.mark.slow
def test_a_copy_opens_as_a_file_shows_the_case_and_asks_nobody(browser, copy):
    reader = opened(browser, copy)
    assert reader.totals() == {"LM": "0", "LAD": "900", "LCX": "0", "RCA": "1800", "total": "2700"}
    assert scored_from(copy) == {"LAD": 900, "RCA": 1800}
    assert "900 to 2700" in reader.text("#score")
    assert reader.page.locator("#lines p").all_inner_texts() == answers_of(copy)["state"]["lines"]
    scan = answers_of(copy)["scan"]
    shown = f"slices {scan['first_slice'] + 1}–{scan['first_slice'] + scan['shape'][0]} of 20 around the heart"
    assert re.fullmatch(
        r"Read-only copy of \d{4}-\d\d-\d\d: DRAFT, read by nobody. Research software, not for diagnosis or treatment. "
        rf"Shows {shown}; HU as scanned.",
        reader.text("#copyBand"),
    )
    reader.page.get_by_role("button", name="Show lesion 1").click()
    assert "Lesion 1: LAD" in reader.text("#selected")
    assert ", lesion 1 LAD" in reader.text("#place2")
    k = reader.slice()
    box = reader.page.locator("#axial").bounding_box()
    reader.page.mouse.move(box["x"] + 50, box["y"] + 50)
    reader.page.mouse.wheel(0, -100)
    assert reader.slice() == k + 1
    reader.page.locator("#axial").focus()
    reader.key("End", "ArrowUp", "ArrowUp")
    assert reader.text("#place1").startswith(f"Slice {scan['first_slice'] + 3} of 20")
    assert [url for url in reader.asked if not url.startswith(("data:", "blob:"))] == [copy.as_uri()]
    reader.close()


@pytest.mark.slow
def test_nothing_in_a_copy_changes_the_case_by_mouse_or_key(browser, copy):
    reader = opened(browser, copy)
    assert reader.page.locator(EDITING).count() == 0
    reader.key("u")
    assert "Lesion 2: RCA" in reader.text("#selected")
    assert reader.page.locator(EDITING).count() == 0
    before = reader.totals()
    for key in ("Enter", "3", "Delete", "z", "y", "Control+z"):
        reader.key(key)
        assert "This case is a read-only copy: nothing can be changed here." in reader.text("#alertText")
        reader.key("Escape")
    for key in ("b", "e", "a", "c", "x"):
        reader.key(key)
        assert reader.text("#mode").startswith("Look: a click selects, and changes nothing.")
        reader.key("Space")
    reader.drag((14, 12), (14, 14), (15, 14))
    assert reader.totals() == before
    assert reader.version == 0
    reader.close()


@pytest.mark.slow
def test_axe_finds_nothing_in_a_copy_on_a_phone(browser, copy):
    axe = Path(pytest.importorskip("axe_playwright_python").__file__).parent / "axe.min.js"
    reader = opened(browser, copy, size=(390, 844))
    reader.page.evaluate(axe.read_text())
    found = reader.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert [(v["id"], [n["target"] for n in v["nodes"]]) for v in found["violations"]] == []
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= 390
    reader.close()


@pytest.mark.slow
def test_the_part_around_the_heart_keeps_numbers_places_and_hu(browser, case, tmp_path, monkeypatch):
    heart = {"slices": [12, 14], "rows": [20, 22], "columns": [20, 22]}
    monkeypatch.setattr(write, "heart_box", lambda case: heart)
    path = tmp_path / "part.html"
    write_copy(case, path)
    # A margin of 15 mm is 5 slices of 3 mm and 3 pixels of 5 mm: slices 7-18, rows 17-24, columns 17-24, of which the
    # labels extend slices down to 5, rows up to 14, columns to 15.
    scan = answers_of(path)["scan"]
    assert (scan["shape"], scan["first_slice"], scan["slices"]) == ([14, 11, 10], 5, 20)
    assert scored_from(path) == {"LAD": 900, "RCA": 1800}
    assert answers_of(path)["heart"] == {"slices": [7, 9], "rows": [6, 8], "columns": [5, 7]}
    reader = opened(browser, path)
    assert "Shows slices 6–19 of 20 around the heart; HU as scanned." in reader.text("#copyBand")
    assert reader.totals() == {"LM": "0", "LAD": "900", "LCX": "0", "RCA": "1800", "total": "2700"}
    for lesion, letters, peak, slices in ((LAD, "LAD", "250", "9–10"), (RCA, "RCA", "450", "6–7")):
        reader.page.get_by_role("button", name=f"Show lesion {lesion}").click()
        assert reader.text("#place2") == f"{peak} HU, lesion {lesion} {letters}"
        assert re.match(rf"Slice ({slices.replace('–', '|')}) of 20", reader.text("#place1"))
        assert any(f"{letters} " in row and f" {slices} " in row for row in reader.lesions())
    reader.page.locator("#axial").focus()
    reader.key("End")
    assert reader.text("#place1").startswith("Slice 6 of 20")
    reader.key("Home")
    assert reader.text("#place1").startswith("Slice 19 of 20")
    reader.close()


def test_no_identity_and_no_path_unless_asked(case, tmp_path):
    renamed = case.parent.rename(tmp_path / "smith-ann")
    plain, named = tmp_path / "plain.html", tmp_path / "named.html"
    write_copy(renamed / "case", plain)
    text = re.sub(r"[A-Za-z0-9+/=]{999,}", "", plain.read_text())  # packed voxels may spell anything
    saved = load_case(renamed / "case")
    header = saved.source_ct.header
    for secret in (
        "alert(1)", "Ann", "P1", "smith", header.series_uid, header.sop_instance_uids[0],
        *saved.provenance.source, str(tmp_path),
    ):  # fmt: skip
        assert secret not in text, secret
    assert main(["review", str(renamed), "--export-html", str(named), "--identify"]) == 0
    assert NAME not in named.read_text(), "a name with markup is text in the file too"
    assert "P1" in answers_of(named)["scan"]["identity"]
    assert answers_of(named)["scan"]["name"] == "smith-ann"


def test_a_copy_is_no_edit_and_replaces_nothing(case, tmp_path, capsys):
    before = digest_of(case)
    path = tmp_path / "copy.html"
    write_copy(case, path)
    assert digest_of(case) == before
    whole = path.read_bytes()
    assert main(["review", str(case), "--export-html", str(path)]) == 3
    assert "is there already: choose another name for --export-html" in capsys.readouterr().err
    assert path.read_bytes() == whole
    assert main(["review", str(case), "--export-html", str(tmp_path / "no" / "copy.html")]) == 3
    assert "is no folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_script_of_another_is_not_run_and_nobody_is_asked_in_a_copy(browser, copy, tmp_path):
    """Another's server listens, and would answer a page that was opened as a file."""
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            """Not into the output of the tests."""

    listener = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    listening = f"http://127.0.0.1:{listener.server_port}/"
    fetching = f"fetch('{listening}').then(() => 'went out', (error) => 'kept in')"
    open_page = tmp_path / "open.html"
    open_page.write_text("<title>without a policy</title>")
    page = browser.new_page()
    page.goto(open_page.as_uri())
    assert page.evaluate(fetching) == "went out"
    assert asked == ["/"]
    page.close()
    hostile = copy.read_text().replace("</body>", "<script>document.title = 'ran'</script></body>")
    copy.write_text(hostile)
    reader = opened(browser, copy)
    assert "ran" not in reader.page.title()
    assert reader.page.evaluate(fetching) == "kept in"
    assert asked == ["/"]
    assert any("Content Security Policy" in line for line in reader.complaints)
    reader.complaints.clear()
    reader.asked = [url for url in reader.asked if not url.startswith(listening)]
    reader.close()
    listener.shutdown()
    listener.server_close()


def test_no_module_is_left_out_of_the_one_script():
    page = copied_page({}, "", "")
    script = page.rpartition('<script type="module">')[2].partition("</script>")[0]
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
    assert page.count("<script") == 3
    assert page.rstrip().endswith("</html>")


def test_a_large_scan_is_packed_in_coarser_hu_and_says_so(monkeypatch):
    noise = np.random.default_rng(3).normal(40, 20, (4, 64, 64)).astype(np.int16)
    exact, step = part.pack(noise)
    assert step == 1
    monkeypatch.setattr(part, "MAX_BYTES", int(len(exact) * 0.7))
    text, step = part.pack(noise)
    assert step > 1
    assert len(text) <= len(exact) * 0.7
    assert f"HU rounded to {step}." in write.band_words("", "", (slice(0, 4),) * 3, (4, 4, 4), step)
    monkeypatch.setattr(part, "MAX_BYTES", 100)
    with pytest.raises(InputRefused, match="takes more than"):
        part.pack(noise)


def test_what_is_packed_is_the_scan():
    whole = hu()
    text, step = part.pack(whole)
    assert step == 1
    back = np.frombuffer(gzip.decompress(base64.b64decode(text)), "<i2").reshape(whole.shape)
    assert np.array_equal(back, whole)
    coarse = np.array([[[-3, 129, 131, 999]]], np.float32)
    text, _ = part.pack(coarse + 0.3)
    assert np.frombuffer(gzip.decompress(base64.b64decode(text)), "<i2").tolist() == [-3, 129, 131, 999]
