"""Pictures of the page, for people to look at and for docs/browser.md; `make pictures` keeps them in docs/pictures.

Kept, they show the phantom of the tutorial (a minute to make); else the small chest, only to see that they are drawn.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from viewer.page import Reader
from viewer.reviewed_chest import Server

from heartlens.__main__ import main
from heartlens.app.review_session import ReviewSession
from heartlens.app.rounds.readings import make_second
from heartlens.core.lesions import Artery

pytestmark = pytest.mark.slow

KEPT = os.environ.get("HEARTLENS_PICTURES", "")


@pytest.fixture
def shown(case, tmp_path) -> Path:
    """A case folder."""
    if not KEPT:
        return case
    chosen = ["--set", "field_of_view=heart", "--set", "category=101-400"]
    assert main(["phantom", "--out", str(tmp_path / "phantom"), "--seed", "4", *chosen]) == 0
    assert main(["score", str(tmp_path / "phantom" / "ct"), "--out", str(tmp_path / "phantom-4")]) == 0
    return tmp_path / "phantom-4" / "case"


def test_pictures_of_reading_and_signing(browser, shown, tmp_path):
    folder, second = Path(KEPT or tmp_path), tmp_path / "second"
    sizes = {}

    def keep(reader, name):
        reader.page.evaluate("new Promise(requestAnimationFrame)")
        path = folder / f"browser-{name}.png"
        reader.page.screenshot(path=path)
        sizes[name] = struct.unpack(">II", path.read_bytes()[16:24])

    with Server(shown) as server:
        reader = Reader(browser, server, (1400, 860))
        reader.page.locator("#axial").focus()
        reader.key("n", "+", "+", "+")
        keep(reader, "reading")
        phone = Reader(browser, server, (390, 844))
        phone.page.locator("#theme").click()
        phone.page.locator("#axial").focus()
        phone.key("u")
        phone.page.locator("#mode").evaluate("(mode) => mode.scrollIntoView()")
        keep(phone, "phone")
        phone.close()
        while any(row["undecided"] for row in server.state()["lesions"]):
            reader.key("u")
            reader.page.evaluate("new Promise(requestAnimationFrame)")
            version = reader.version
            reader.key("Enter")
            reader.wait(f'body[data-version="{version + 1}"]')
        reader.page.get_by_label("Observer").fill("Reader^Rita")
        reader.page.get_by_label("Organization").fill("Phantom Hospital")
        reader.page.locator("#confirm").check()
        reader.page.locator("#sign").click()
        reader.wait("#state.signed")
        reader.page.locator("#exports").scroll_into_view_if_needed()
        keep(reader, "signed")
        reader.close()
        make_second(shown, second, "Ravi")
        with ReviewSession.open(second, reader="Ravi") as session:
            lesions = [row.id for row in session.case.report.lesions]
            session.assign(lesions[0], Artery.LM)
            session.remove(lesions[-1])
    arguments = ("--against", second, "--adjudicate", tmp_path / "third")
    with Server("--reader", "Rosa", shown, *arguments) as server:
        reader = Reader(browser, server, (1400, 860))
        reader.page.locator("#axial").focus()
        reader.key("d", "+", "+", "+")
        keep(reader, "readings")
        reader.close()
    assert sizes == {"reading": (1400, 860), "phone": (390, 844), **dict.fromkeys(("signed", "readings"), (1400, 860))}
