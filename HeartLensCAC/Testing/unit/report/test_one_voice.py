"""In every situation page, command line, SR, report.json and docs/reading.md say the same of a score."""

from __future__ import annotations

import html
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from situations import ROWS

from heartlens.__main__ import result_table
from heartlens.dicom.sr_content.groups import total_words
from heartlens.report.dicom_objects import object_uids
from heartlens.report.fhir import fhir_bundle
from heartlens.report.html import render_report
from heartlens.report.sheet.marks import Letters
from heartlens.report.sheet.pages import FOOT_MARKS, sheets_of
from heartlens.risk.evaluable import State

REPOSITORY = Path(__file__).resolve().parents[4]
READING = REPOSITORY / "docs" / "reading.md"
sys.path.append(str(REPOSITORY / "scripts"))
import reading_page  # noqa: E402  # a script, and no package

SET_BY_CSS = "☐·:"
"""Signs between facts and before what is ticked, which report.css puts on the page."""


def letters_in(page):
    """How often each letter stands on the page, pictures left out."""
    main = re.search(r"<main>(.*)</main>", page, re.DOTALL)[1]
    return counted(html.unescape(re.sub(r"<[^>]+>", "", re.sub(r"<svg.*?</svg>", "", main, flags=re.DOTALL))))


def letters_on(sheets):
    """The same of sheets, without their feet."""
    return counted("".join(m.words for sheet in sheets for m in sheet.marks[:-FOOT_MARKS] if isinstance(m, Letters)))


def counted(text):
    return Counter(letter for letter in text.lower() if not letter.isspace() and letter not in SET_BY_CSS)


def tables():
    """Head and lines of both tables of docs/reading.md."""
    written = READING.read_text(encoding="utf-8")
    for head in (reading_page.HEAD, reading_page.OUTPUTS):
        before, found, written = written.partition(head)
        assert found, f"docs/reading.md lacks what its script writes: {head[:80]}"
        yield before
    yield written


def test_there_are_more_than_forty_situations_and_no_row_of_others():
    before, *both = tables()
    assert before == ""
    names = [one.name for one in ROWS]
    assert len(names) == len(set(names)) > 40
    for table in both:
        assert [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()] == names


def is_kept(situation):
    """Whether somebody has signed: `heartlens score` signs nothing, and never opens what was."""
    return situation.state in (State.SIGNED, State.ALTERED)


@pytest.mark.parametrize("situation", ROWS, ids=[one.name for one in ROWS])
def test_all_places_say_the_same(situation):
    """No two outputs differ in number, range, category, evaluable and state; SR is written and read again as DICOM."""
    case, signature, assessment = situation.case, situation.signature, situation.assessment
    rendered = render_report(case, signature=signature, state=situation.state)
    said = reading_page.said_of(situation, rendered)
    assert set(said) == {"page", "SR", "report.json", "draft", *([] if is_kept(situation) else ["terminal"])}
    assert len({one.facts for one in said.values()}) == 1, {name: one.facts for name, one in said.items()}
    _, first, second = tables()
    assert reading_page.what(situation) in first
    (line,) = [line for line in second.splitlines(keepends=True) if line.startswith(f"| {situation.name} |")]
    panel = line.split(" | ")[5]  # which the tests of the panel hold
    assert line == reading_page.where(situation, said, panel)
    assert letters_on(sheets_of(rendered)) == letters_in(rendered)
    page = re.sub(r"<style>.*?</style>|<[^>]+>", " ", rendered, flags=re.DOTALL)
    page = re.sub(r"\s+", " ", html.unescape(page))
    assert assessment.headline() in page
    for words in (assessment.range(), assessment.decide(), assessment.probability(), assessment.why()):
        assert words in page or words[:1].upper() + words[1:] in page
    document = case.report_document(assessment)["assessment"]
    assert document["texts"]["headline"] == assessment.headline()
    assert document["texts"]["sentence"] == assessment.sentence()
    uids = object_uids(case, signature, situation.state)
    bundle = fhir_bundle(case, uids, signature=signature, state=situation.state)
    report, total, *_ = (entry["resource"] for entry in bundle["entry"])
    for line in assessment.lines():
        assert line in report["conclusion"]
        assert {"text": line} in total["note"]
        assert line in total_words(case.report, assessment)
        if not is_kept(situation):
            assert line in result_table(case)
