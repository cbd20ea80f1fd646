"""The reader's journey in a real Chromium: open, look, decide, reassign, paint, erase, cut, box, undo, sign, export.

At every stop the totals on the page are those of a scorer that shares no code with ours, over the voxels that the page
draws; at the end, over the DICOM SEG.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pydicom
import pytest
from viewer.page import Reader
from viewer.reviewed_chest import LAD, RCA, Server, labels_of_seg, scored_plainly, write_case

from heartlens.case.folder import load_case
from heartlens.core.lesions import Artery

pytestmark = pytest.mark.slow


@pytest.fixture
def reader(browser, server) -> Iterator[Reader]:
    """Before the small chest, its whole slices on the screen."""
    reading = Reader(browser, server)
    reading.page.locator("#axial").focus()
    reading.key("f")
    yield reading
    reading.close()


def test_from_the_open_case_to_the_signed_result(reader, case):
    page = reader.page
    assert reader.totals() == {"LM": "0", "LAD": "900", "LCX": "0", "RCA": "1800", "total": "2700"}
    assert reader.text("#state") == "DRAFT, read by nobody"
    assert "900 to 2700" in reader.text("#score")
    assert reader.lesions()[0].startswith(f"{RCA} RCA 1800 6–7")
    assert "undecided, not visited" in reader.lesions()[0]

    # Selecting never edits: by the list, by the image, by keys.
    page.get_by_role("button", name="Show lesion 1").click()
    reader.go_to_slice(5)
    reader.click(18, 16)
    assert "Lesion 2: RCA" in reader.text("#selected")
    reader.key("n", "p", "u")
    assert reader.version == 0
    assert reader.server.state()["version"] == 0

    # Decide, by the key; reassign, by the button and by its key.
    reader.edits(lambda: reader.key("Enter"))
    assert reader.text("#state") == "READ, edited by a reader and not signed"
    reader.edits(lambda: page.get_by_role("group", name="Lesion 2 goes to").get_by_text("LCX").click())
    assert reader.totals()["LCX"] == "1800"
    reader.edits(lambda: reader.key("4"))
    assert reader.totals()["RCA"] == "1800"

    # A tool's artery is not the selected lesion's: the keys mean the tool as soon as one is in the hand.
    reader.key("n", "b", "1")
    assert reader.version == 3
    assert "Brush: calcium under it goes to LM" in reader.text("#mode")

    # Brush over calcium that was missed: six of nine pixels of one slice, then the island by a click.
    reader.go_to_slice(12)
    reader.edits(lambda: reader.drag((14, 12), (14, 14), (15, 14), (15, 12)))
    assert reader.totals()["LM"] == str(6 * 25 * 3)
    reader.key("a", "3")
    reader.edits(lambda: reader.click(16, 13))
    assert reader.totals()["LCX"] == str(1350 - 450), "what was brushed stays LM's"

    # The part in one slice alone; then the eraser over a column of it.
    reader.key("4")
    reader.go_to_slice(8)
    reader.edits(lambda: reader.click(15, 23, "Control"))
    assert (reader.totals()["LAD"], reader.totals()["RCA"]) == ("450", str(1800 + 450))
    reader.key("e")
    reader.edits(lambda: reader.drag((14, 22), (16, 22)))
    assert reader.totals()["RCA"] == str(1800 + 300)

    # A line around one row of a lesion cuts it off; a box takes all calcium in it.
    reader.key("c", "2")
    reader.go_to_slice(5)
    reader.edits(lambda: reader.drag((16.4, 14), (16.4, 18.6), (17.5, 18.6), (17.5, 14), (16.5, 14)))
    assert reader.totals()["LAD"] == str(450 + 3 * 25 * 4)
    reader.key("x", "1")
    reader.go_to_slice(13)
    reader.edits(lambda: reader.drag((13.2, 11.2), (17.2, 15.2)))
    assert reader.totals()["LM"] == str(450 + 675)
    assert reader.text("#mode").startswith("Box: all calcium in it goes to LM")

    # Undo, undo, redo; delete a lesion and bring it back.
    reader.edits(lambda: reader.key("z"))
    reader.edits(lambda: reader.key("Control+z"))
    reader.edits(lambda: reader.key("y"))
    assert reader.totals()["LAD"] == "750"
    reader.key("Escape", "n")
    before = reader.totals()
    reader.edits(lambda: reader.key("Delete"))
    assert reader.totals() != before
    reader.edits(lambda: page.locator("#undo").click())
    assert reader.totals() == before

    # Sign: blocked until named and confirmed.
    assert page.locator("#sign").is_disabled()
    page.get_by_label("Observer").fill("Reader^Rita")
    page.get_by_label("Organization").fill("Phantom Hospital 4")  # a digit in a field is no artery
    assert page.locator("#sign").is_disabled()
    page.locator("#confirm").check()
    page.locator("#sign").click()
    reader.wait("#state.signed")
    assert reader.text("#state").startswith("SIGNED by Rita Reader, Phantom Hospital 4")
    assert "settled by the signature: calcium was found and named by networks" in reader.text("#notes")
    out = case.parent / "signed"
    plain = scored_plainly(labels_of_seg(out / "segmentation.dcm"))
    assert {name: str(round(plain[name])) for name in ("LM", "LAD", "LCX", "RCA")} == {
        name: value for name, value in reader.totals().items() if name != "total"
    }
    report = pydicom.dcmread(out / "report.dcm")
    assert report.VerificationFlag == "VERIFIED"
    assert report.VerifyingObserverSequence[0].VerifyingObserverName == "Reader^Rita"
    assert json.loads((out / "report.json").read_text())["signature"]["organization"] == "Phantom Hospital 4"
    with page.expect_download() as arriving:
        page.get_by_role("button", name="segmentation.dcm").click()
    assert Path(arriving.value.path()).read_bytes() == (out / "segmentation.dcm").read_bytes()
    shown = reader.totals()
    assert str(round(load_case(case).report.total.agatston)) == shown["total"]


def test_by_keys_a_part_in_a_slice_and_what_needs_the_pointer(reader):
    reader.key("a", "4")
    reader.page.get_by_role("button", name="Show lesion 1").click()
    reader.page.locator("#axial").focus()
    reader.edits(lambda: reader.key("Shift+Space"))
    assert (reader.totals()["LAD"], reader.totals()["RCA"]) == ("450", str(1800 + 450)), "one of its two slices"
    for key in ("c", "x"):
        reader.key(key)
        assert "Needs the pointer." in reader.text("#mode")
        reader.key("Space")
        assert "by keys, the brush gives the same voxels" in reader.text("#alertText")
        reader.key("Escape")
    assert reader.version == 1


def test_by_keyboard_alone(reader, case):
    """No mouse from the first lesion to the signature."""
    page = reader.page
    reader.key("u")
    reader.edits(lambda: reader.key("3"))
    reader.key("a", "1")
    reader.go_to_slice(12)
    row = next(row for row in reader.server.state()["lesions"] if row["id"] == RCA)  # where the crosshair is
    _, j, i = row["kji"]
    reader.key(*["Shift+ArrowUp"] * (j - 15), *["Shift+ArrowLeft"] * (i - 13))
    reader.edits(lambda: reader.key("Space"))
    assert reader.totals() == {"LM": "1350", "LAD": "900", "LCX": "1800", "RCA": "0", "total": "4050"}
    page.locator("#observer").focus()
    page.keyboard.type("Reader^Rita")
    page.keyboard.press("Tab")
    page.keyboard.type("Clinic")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "sign"
    page.keyboard.press("Enter")
    reader.wait("#state.signed")
    assert load_case(case).report.arteries[Artery.LM].agatston == 1350


def test_two_tabs_on_one_case(reader, browser, server):
    second = Reader(browser, server)
    reader.key("u")
    reader.edits(lambda: reader.key("4"))
    second.page.get_by_role("button", name="Show lesion 1").click()
    second.page.locator("#axial").focus()
    second.key("1")
    second.wait("#alert:not([hidden])")
    assert "edited in another window" in second.text("#alertText")
    second.wait('body[data-version="1"]')
    assert second.totals() == reader.totals(), "it is shown anew, and what was stale was not done"
    second.edits(lambda: second.key("1"))
    assert second.totals()["LM"] == "900"
    second.complaints = [line for line in second.complaints if "409" not in line]
    second.close()


def test_what_a_killed_server_answered_is_there_the_next_time(browser, case):
    with Server(case) as server:
        reader = Reader(browser, server)
        reader.page.get_by_role("button", name="Show lesion 1").click()
        reader.page.locator("#axial").focus()
        reader.edits(lambda: reader.key("4"))
        server.kill()
        reader.key("1")
        reader.wait("#alert:not([hidden])")
        assert "The server does not answer. Every edit that it answered is kept" in reader.text("#alertText")
        reader.context.close()  # without asking what it complained of: its requests find no server
    with Server(case) as server:
        reader = Reader(browser, server)
        assert reader.totals()["RCA"] == "2700"
        reader.close()


def test_a_page_of_a_server_that_has_ended_says_so(browser, server):
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.base + "#old-token")
    page.locator("#alert:not([hidden])").wait_for()
    assert "open the address that heartlens review printed" in page.locator("#alertText").inner_text()
    assert page.locator("#page").is_hidden()
    context.close()


def test_a_tab_of_a_server_that_was_started_again_at_its_port_changes_nothing(browser, case):
    with Server(case) as server:
        old = Reader(browser, server)
        old.page.get_by_role("button", name="Show lesion 1").click()
        port = server.base.rstrip("/").rpartition(":")[2]
        server.kill()
    with Server("--port", port, case) as server:
        old.page.locator("#axial").focus()
        old.key("1")
        old.page.locator("#alertText").get_by_text("open the address that heartlens review printed").wait_for()
        assert (old.version, server.state()["version"]) == (0, 0)
        old.server = server
        old.page.goto("about:blank")
        old.page.goto(server.address)  # the same tab, with the address that was printed now
        old.wait("[data-ready=yes]")
        old.page.get_by_role("button", name="Show lesion 1").click()
        old.page.locator("#axial").focus()
        old.edits(lambda: old.key("1"))
        assert old.totals()["LM"] == "900"
        old.context.close()


class Evil(BaseHTTPRequestHandler):
    """An empty page of another server of this computer: of one elsewhere Chromium itself would ask nothing here."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>evil</title><body></body>")

    def log_message(self, *_words: object) -> None:
        """Not into the output of the tests."""


@pytest.fixture
def evil() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Evil) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}/"
        listener.shutdown()


def test_a_page_of_somebody_else_reads_and_changes_nothing(reader, server, evil):
    """Another origin, in the same browser, that knows the port, and even one that knows the token."""
    page = reader.context.new_page()
    page.goto(evil)
    words = json.dumps({"version": 0, "kind": "remove", "lesion": LAD})
    for headers in ({}, {"X-HeartLens-Token": server.token}):
        for path, options in (("api/cases/0", {}), ("api/cases/0/edit", {"method": "POST", "body": words})):
            told = page.evaluate(
                "([url, options]) => fetch(url, options).then((answer) => answer.text(), (error) => String(error))",
                [server.base + path, {**options, "headers": headers}],
            )
            assert "lesions" not in told
    blind = {"method": "POST", "mode": "no-cors", "body": words}
    page.evaluate("([url, options]) => fetch(url, options).catch(() => 0)", [server.base + "api/cases/0/edit", blind])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    framing = "url => Object.assign(document.body.appendChild(document.createElement('iframe')), { src: url })"
    page.evaluate(f"(url) => {{ ({framing})(url); }}", server.address)
    page.wait_for_timeout(1000)
    assert asked == [server.base], "the page came, was not framed, and asked for no script and no case"
    assert f"{server.base}start.js" in reader.asked, "as it does where it is not in a frame"
    assert server.state()["version"] == 0
    page.close()


def test_a_zero_needs_a_look_through(browser, tmp_path):
    case = write_case(tmp_path, is_empty=True)
    with Server(case) as server:
        reader = Reader(browser, server)
        assert reader.totals()["total"] == "0"
        assert "no coronary calcium" in reader.text("#confirmText")
        for field in ("Observer", "Organization"):
            reader.page.get_by_label(field).fill("Rita")
        reader.page.locator("#confirm").check()
        assert "A score of 0 is a claim about every slice" in reader.text("#obstacles")
        assert reader.page.locator("#sign").is_disabled()
        reader.page.locator("#axial").focus()
        reader.key("End")
        for _ in range(server.ask("api/cases/0")[1]["scan"]["shape"][0]):
            reader.page.wait_for_timeout(150)  # a slice that flits by was not seen
            reader.key("ArrowUp")
        reader.page.locator("#sign:not([disabled])").wait_for(timeout=20_000)
        reader.page.locator("#sign").click()
        reader.wait("#state.signed")
        reader.close()
