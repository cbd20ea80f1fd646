"""From one patient's case to another's in a real Chromium: nothing that is meant for one reaches the other."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from viewer.page import Reader
from viewer.reviewed_chest import LAD, RCA, Server

from heartlens.case.case import Case
from heartlens.case.folder import load_case, save_case
from heartlens.core.ct import CTVolume

pytestmark = pytest.mark.slow


@pytest.fixture
def reader(browser, written_once, other_once, tmp_path) -> Iterator[Reader]:
    """Before the first of two cases, of two scans."""
    for name, place in (("a", written_once), ("b", other_once)):
        shutil.copytree(place / "result", tmp_path / "list" / name)
    with Server("--reader", "Rita", tmp_path / "list") as server:
        reading = Reader(browser, server)
        reading.page.locator("#axial").focus()
        reading.key("f")
        yield reading
        reading.close()


def hold(reader: Reader, url: str) -> list[Any]:
    """Requests to one address wait until each is let go with `continue_`."""
    held: list[Any] = []
    reader.page.route(url, lambda route: held.append(route))  # playwright marks a handler: no built-in one
    return held


def let_go(reader: Reader, held: list[Any]) -> None:
    while not held:
        reader.page.wait_for_timeout(20)
    for one in held:
        one.continue_()
    held.clear()


def shown(reader: Reader, name: str) -> None:
    reader.page.locator("#case").get_by_text(re.compile(rf"^{name}\b")).wait_for()  # beside it stands "scanned"
    reader.wait("[data-ready=yes]")


def version(reader: Reader, case: int) -> int:
    return reader.server.ask(f"api/cases/{case}/state")[1]["version"]


def test_what_is_done_while_the_next_case_comes_is_done_to_the_one_that_is_seen(reader):
    held = hold(reader, "**/api/cases/1")
    reader.page.get_by_role("button", name="Show lesion 1").click()
    reader.page.locator("#nextCase").click()
    reader.page.locator("#axial").focus()
    reader.key("Delete")
    reader.wait('body[data-version="1"]')
    reader.page.wait_for_timeout(1700)  # what was seen is told every second and a half
    assert "Case 1 of 2" in reader.text("#place")
    assert [url for url in reader.asked if "/cases/1/" in url] == []
    let_go(reader, held)
    shown(reader, "b")
    assert (version(reader, 0), version(reader, 1)) == (1, 0)
    assert len(reader.server.ask("api/cases/1/state")[1]["lesions"]) == 2
    reader.page.get_by_role("button", name=f"Show lesion {LAD}").click()
    reader.page.locator("#axial").focus()
    reader.key("4")
    reader.wait('body[data-version="1"]')
    assert (version(reader, 0), version(reader, 1)) == (1, 1)


def test_a_stroke_that_began_in_one_case_ends_with_it(reader):
    held = hold(reader, "**/api/cases/1")
    reader.key("b")
    reader.go_to_slice(12)
    reader.page.locator("#nextCase").click()
    reader.page.mouse.move(*reader.place(14, 12))
    reader.page.mouse.down()
    reader.page.mouse.move(*reader.place(14, 14), steps=4)
    let_go(reader, held)
    shown(reader, "b")
    reader.page.mouse.up()
    reader.page.wait_for_timeout(200)
    assert (version(reader, 0), version(reader, 1)) == (0, 0)


def test_what_waits_while_another_case_comes_is_done_in_neither(reader):
    """The first edit was on its way; the second edit and the export behind it were not."""
    edits, case = hold(reader, "**/api/cases/0/edit"), hold(reader, "**/api/cases/1")
    reader.page.get_by_role("button", name="Show lesion 1").click()
    reader.page.locator("#nextCase").click()
    reader.page.locator("#axial").focus()
    reader.key("1", "2")
    reader.page.locator("#export").click()
    assert reader.page.locator("#export").is_disabled(), "it is being made"
    let_go(reader, case)
    shown(reader, "b")
    told = reader.page.locator("#alertText")
    let_go(reader, edits)
    told.get_by_text("Another case was opened first: nothing was written.").wait_for()
    assert [url for url in reader.asked if url.endswith("/export")] == []
    assert reader.page.locator("#export").is_enabled()
    assert (version(reader, 0), version(reader, 1)) == (1, 0)
    assert reader.version == 0, "of the case that is shown"
    assert reader.totals()["LM"] == "0"


def test_what_is_told_while_another_case_comes_stays_and_says_of_which_case_it_is(reader):
    held = hold(reader, "**/api/cases/1")
    reader.page.locator("#nextCase").click()
    reader.page.locator("#axial").focus()
    reader.key("z")
    reader.page.get_by_text("Nothing to undo.").wait_for()
    let_go(reader, held)
    shown(reader, "b")
    assert reader.text("#alertText") == "In the case that was left: Nothing to undo."
    reader.page.get_by_role("button", name="Show lesion 1").click()
    reader.page.locator("#axial").focus()
    reader.key("4")
    reader.wait('body[data-version="1"]')
    assert reader.page.locator("#alert").is_hidden(), "it was there to be read when this edit was asked for"
    reader.complaints = [line for line in reader.complaints if "422" not in line]


def test_what_was_told_before_another_case_is_asked_for_goes_with_its_case(reader):
    reader.page.locator("#axial").focus()
    reader.key("z")
    reader.page.get_by_text("Nothing to undo.").wait_for()
    reader.page.locator("#nextCase").click()
    shown(reader, "b")
    assert reader.page.locator("#alert").is_hidden()
    reader.complaints = [line for line in reader.complaints if "422" not in line]


def test_an_edit_that_was_asked_for_before_another_failed_does_not_take_its_message_away(reader):
    """Both are on their way when the first one fails."""
    edits = hold(reader, "**/api/cases/0/edit")
    reader.page.get_by_role("button", name="Show lesion 1").click()
    reader.page.locator("#axial").focus()
    reader.key("z", "4")
    let_go(reader, edits)
    let_go(reader, edits)  # the second one, behind the first
    reader.wait('body[data-version="1"]')
    assert reader.text("#alertText") == "Nothing to undo."
    reader.page.locator("#closeAlert").click()
    assert reader.page.locator("#alert").is_hidden()
    reader.complaints = [line for line in reader.complaints if "422" not in line]


def test_what_an_export_left_out_is_told_also_when_its_case_was_left(browser, written_once, other_once, tmp_path):
    """A key page was asked for, and a CT that is no DICOM has no study that it could be put into."""
    opened = load_case(written_once / "result" / "case")
    (tmp_path / "list" / "a").mkdir(parents=True)
    volume = CTVolume(opened.source_ct.hu, opened.source_ct.affine)
    save_case(Case.of(volume, opened.lesions, opened.protocol), tmp_path / "list" / "a" / "case")
    (tmp_path / "list" / "a" / "key-page.dcm").write_bytes(b"")
    shutil.copytree(other_once / "result", tmp_path / "list" / "b")
    with Server(tmp_path / "list") as server:
        reader = Reader(browser, server)
        held = hold(reader, "**/api/cases/0/export")
        reader.page.locator("#export").click()
        while not held:
            reader.page.wait_for_timeout(20)
        asked = hold(reader, "**/api/cases/1")
        reader.page.evaluate("document.getElementById('nextCase').click()")
        let_go(reader, held)
        let_go(reader, asked)
        shown(reader, "b")
        missing = "key-page.dcm was not written: the CT is not DICOM"
        reader.page.locator("#previousCase").click()
        shown(reader, "a")
        reader.page.locator("#exports").get_by_text(missing).wait_for(timeout=20_000)
        reader.close()


def test_of_two_cases_that_were_asked_for_the_last_is_shown(reader):
    held = hold(reader, "**/api/cases/1")
    reader.page.locator("#nextCase").click()
    reader.page.locator("#nextCase").click()
    while len(held) < 2:
        reader.page.wait_for_timeout(20)
    held.pop().continue_()
    shown(reader, "b")
    reader.page.get_by_role("button", name="Show lesion 1").click()
    let_go(reader, held)
    reader.page.wait_for_timeout(200)
    assert "1 not visited" in reader.text("#count"), "the first answer came last, and changed nothing"


def test_a_next_case_that_cannot_be_opened_leaves_this_one_as_it_is(reader):
    reader.page.route("**/api/cases/1", lambda route: route.abort())
    reader.page.locator("#nextCase").click()
    reader.page.get_by_text("The server does not answer").wait_for()
    assert "Case 1 of 2" in reader.text("#place")
    reader.page.get_by_role("button", name="Show lesion 1").click()
    reader.page.locator("#axial").focus()
    reader.edits(lambda: reader.key("4"))
    assert reader.page.locator("#alert").is_hidden()
    reader.complaints = [line for line in reader.complaints if "ERR_FAILED" not in line]


def test_a_case_begins_with_its_own_window_words_and_marks(reader):
    reader.page.locator("#window").select_option("lung")
    reader.page.get_by_role("button", name="Show lesion 1").click()
    assert "1 not visited" in reader.text("#count")
    reader.page.locator("#nextCase").click()
    shown(reader, "b")
    assert reader.page.locator("#window").input_value() == "calcium"
    assert reader.text("#windowText") == "-200 to 500 HU"
    assert "2 not visited" in reader.text("#count")
    assert reader.page.title() == "HeartLens review", "a folder's name may be a patient's"
    reader.page.locator("#previousCase").click()
    shown(reader, "a")
    assert "1 not visited" in reader.text("#count"), "it was told before the case was left"


def test_a_refresh_that_fails_costs_no_later_edit(reader):
    """The answer that is shown anew after a late edit does not come: the next edit asks again."""
    reader.server.edit(kind="assign", lesion=RCA, artery="LM")
    reader.page.get_by_role("button", name="Show lesion 1").click()
    reader.page.locator("#axial").focus()
    reader.page.route("**/api/cases/0/state", lambda route: route.abort())
    reader.key("1")
    reader.page.get_by_text("your last edit was not made").wait_for()
    reader.page.unroute("**/api/cases/0/state")
    reader.key("1")
    reader.wait('body[data-version="1"]')
    reader.edits(lambda: reader.key("1"))
    assert reader.totals()["LM"] == "2700"
    reader.complaints = [line for line in reader.complaints if "409" not in line and "ERR_FAILED" not in line]


def test_what_was_told_stays_when_the_window_is_looked_at_again(reader):
    reader.page.get_by_role("button", name="Show lesion 1").click()
    reader.page.locator("#axial").focus()
    reader.key("z")
    reader.page.get_by_text("Nothing to undo.").wait_for()
    with reader.page.expect_response("**/api/cases/0/state"):
        reader.page.evaluate("window.dispatchEvent(new Event('focus'))")
    reader.page.wait_for_timeout(100)
    assert reader.page.get_by_text("Nothing to undo.").is_visible()
    reader.complaints = [line for line in reader.complaints if "422" not in line]


def test_of_two_clicks_on_sign_one_signs(reader):
    reader.key("u")
    reader.edits(lambda: reader.key("Enter"))
    reader.page.get_by_label("Observer").fill("Reader^Rita")
    reader.page.get_by_label("Organization").fill("Clinic")
    reader.page.locator("#confirm").check()
    reader.page.evaluate("for (let n = 0; n < 3; n++) document.getElementById('sign').click()")
    reader.wait("#state.signed")
    reader.page.wait_for_timeout(200)
    assert len([url for url in reader.asked if url.endswith("/sign")]) == 1
    assert list(reader.server.ask("api/cases/0/state")[1]["exports"]) == ["signed"]
    assert reader.page.locator("#export").is_enabled()
