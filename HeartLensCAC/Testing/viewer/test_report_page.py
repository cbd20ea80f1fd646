"""report.html and progress.html in a real Chromium: nothing for axe to find, and no sideways scrolling on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from installed import need
from report_cases import BOXES, PERSON, make_case
from two_scans import LAD_4, LAD_MM, opened, scan

from heartlens.case.comparison.progress import compare_scans
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.report.comparison.write import progress_page
from heartlens.report.html import write_report

pytestmark = pytest.mark.slow

SIZES = ((390, 844), (1280, 800))
CLOSE = LesionNote(0.5, LabelSource.NETWORK, "close", undecided=True)


def report(folder: Path, **case) -> Path:
    path = folder / "report.html"
    write_report(path, make_case(**case))
    return path


def undecided(folder: Path) -> Path:
    return report(folder, boxes=BOXES, notes={1: CLOSE, 4: CLOSE}, risk_inputs=PERSON, labels=LabelSource.NETWORK)


def without_an_artery(folder: Path) -> Path:
    return report(folder, boxes=((Artery.UNASSIGNED, 5, 10, 10, 10, 250), *BOXES[1:]), risk_inputs=PERSON)


def zero(folder: Path) -> Path:
    return report(folder, boxes=(BOXES[3],), labels=LabelSource.NETWORK)


def no_heart(folder: Path) -> Path:
    return report(folder, boxes=BOXES, cautions=(WarningRecord("no-heart", "no body between two lungs"),))


def progress(folder: Path) -> Path:
    path = folder / "progress.html"
    prior, current = scan(LAD_4), scan((Artery.LAD, LAD_MM, 8), seed=1)
    path.write_text(progress_page(compare_scans(opened(prior), opened(current))), encoding="utf-8")
    return path


@pytest.mark.parametrize("page_of", [undecided, without_an_artery, zero, no_heart, progress], ids=lambda f: f.__name__)
def test_axe_finds_nothing_on_a_page_and_nothing_runs_over(browser, tmp_path, page_of):
    axe_folder = Path(need("axe_playwright_python", "pip install 'heartlens[test]'").__file__).parent
    axe = (axe_folder / "axe.min.js").read_text()
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(page_of(tmp_path).as_uri())
    page.evaluate(axe)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            told = [(v["id"], [n["target"] for n in v["nodes"]]) for v in found["violations"]]
            assert told == [], f"{scheme}, {width} pixels"
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
