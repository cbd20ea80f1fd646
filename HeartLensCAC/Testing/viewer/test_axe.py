"""Nothing for axe to find, and nothing that runs over: on a phone, a desk and a large screen, dark and light, in every
state that a reader comes to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from installed import need
from two_scans import LAD_4, LAD_MM, RCA_MM, scan
from viewer.page import Reader
from viewer.reviewed_chest import Server

from heartlens.app.review_session import ReviewSession
from heartlens.case.folder import save_case
from heartlens.core.lesions import Artery

pytestmark = pytest.mark.slow

SIZES = [(390, 844), (1280, 800), (2560, 1440)]

at_each_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: str(size[0]))


def axe_finds(reader):
    axe_folder = Path(need("axe_playwright_python", "pip install 'heartlens[test]'").__file__).parent
    reader.page.evaluate((axe_folder / "axe.min.js").read_text())
    found = reader.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [(v["id"], [n["target"] for n in v["nodes"]]) for v in found["violations"]]


def is_fine(reader, size):
    """In both themes; ends in the first, which is dark."""
    for theme in ("dark", "light"):
        assert reader.page.locator("html").get_attribute("data-theme") == theme
        assert axe_finds(reader) == [], theme
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        reader.page.evaluate("document.getElementById('theme').click()")  # also where a dialog lies over it


def press(reader, *keys):
    reader.page.locator("#axial").focus()
    reader.key(*keys)


@at_each_size
def test_reading_a_case(browser, unedited, size):
    reader = Reader(browser, unedited, size)
    press(reader, "u")
    is_fine(reader, size)
    press(reader, "b", "z")  # a tool in the hand, and nothing to undo
    reader.wait("#alert:not([hidden])")
    is_fine(reader, size)
    reader.page.locator("#helpButton").click()
    is_fine(reader, size)
    reader.complaints = [line for line in reader.complaints if "422" not in line]
    reader.close()


@at_each_size
def test_a_case_that_is_to_be_signed_and_one_that_is(browser, case, size):
    with Server("--reader", "Rita", case) as server:
        reader = Reader(browser, server, size)
        press(reader, "u")
        reader.edits(lambda: reader.key("Enter"))
        for field in ("Observer", "Organization"):
            reader.page.get_by_label(field).fill("Rita")
        reader.page.locator("#confirm").check()
        is_fine(reader, size)
        reader.page.locator("#sign").click()
        reader.wait("#state.signed")
        is_fine(reader, size)
        reader.close()


@at_each_size
def test_a_second_reading_and_its_list_of_cases(browser, read_twice_once, tmp_path, size):
    for name in ("a", "b"):
        shutil.copytree(read_twice_once / "first", tmp_path / "list" / name)
    with Server("--reader", "Ravi", "--second", tmp_path / "second", tmp_path / "list") as server:
        reader = Reader(browser, server, size)
        assert reader.text("#round").startswith("Second reading, blind")
        is_fine(reader, size)
        press(reader, "l")
        reader.page.locator("#caseRows").get_by_text("not begun").wait_for()
        is_fine(reader, size)
        reader.close()


@at_each_size
def test_a_list_of_cases_in_every_state(browser, read_twice_once, written_once, tmp_path, size):
    places = {"a": written_once / "result", "b": read_twice_once / "first", "c": read_twice_once / "second"}
    for name, place in {**places, "d": places["a"], "e": places["b"]}.items():
        shutil.copytree(place, tmp_path / "list" / name)
    (tmp_path / "list" / "d" / "case" / "report.json").write_text("{}")
    with ReviewSession.open(tmp_path / "list" / "c") as session:
        session.save_report()
    report = tmp_path / "list" / "e" / "case" / "report.json"
    report.write_text(report.read_text() + " ")
    with Server("--reader", "Rita", tmp_path / "list") as server:
        reader = Reader(browser, server, size)
        press(reader, "l")
        reader.page.locator("#caseRows tr").nth(4).wait_for()
        states = {row.locator("td").first.inner_text() for row in reader.page.locator("#caseRows tr").all()}
        assert states >= {"read", "signed", "altered", "damaged"}
        is_fine(reader, size)
        reader.close()


@at_each_size
def test_two_readings_beside_the_third_case(browser, two_readings, size):
    reader = Reader(browser, two_readings, size)
    press(reader, "d")
    assert reader.page.locator("#readingA").is_visible()
    is_fine(reader, size)
    reader.close()


@at_each_size
def test_a_prior_scan_beside_the_current_one(browser, tmp_path, size):
    prior = scan(LAD_4, (Artery.RCA, RCA_MM, 2), acquired="2020-01-01")
    current = scan((Artery.LAD, LAD_MM, 8), seed=1, acquired="2022-01-01")
    for name, one in (("prior", prior), ("current", current)):
        (tmp_path / name).mkdir()
        save_case(one, tmp_path / name / "case")
    days = ("--prior-date", "2020-01-01", "--current-date", "2022-01-01")
    with Server(tmp_path / "current", "--prior", tmp_path / "prior", *days) as server:
        reader = Reader(browser, server, size)
        reader.page.locator("body[data-prior=yes]").wait_for()
        press(reader, "d")
        assert reader.page.locator("#prior").is_visible()
        is_fine(reader, size)
        reader.close()
