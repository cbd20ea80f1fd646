"""In every situation page, command line, SR, report.json and docs/reading.md say the same of a score."""

from __future__ import annotations

import html
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from report_cases import BOXES, HEADER, PERSON, make_case

from heartlens.__main__ import result_table
from heartlens.case.signature import Signature, answered
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionNote
from heartlens.core.provenance import LabelSource
from heartlens.dicom.sr_content.groups import total_words
from heartlens.report.dicom_objects import object_uids
from heartlens.report.fhir import fhir_bundle
from heartlens.report.html import render_report
from heartlens.report.sheet.marks import Letters
from heartlens.report.sheet.pages import FOOT_MARKS, sheets_of
from heartlens.risk.evaluable import EVALUABLE_BY_CODE, State
from heartlens.risk.person import RiskInputs

READING = Path(__file__).resolve().parents[4] / "docs" / "reading.md"
SIGNATURE = Signature("Doe^Jane", "Clinic", "2026-11-29T10:00:00+01:00")


def networks(*undecided, boxes=BOXES, p=0.99, **more):
    """Lesions that the networks named; some of them undecided, what is not coronary unlikely."""
    notes = {
        n: LesionNote(0.5 if n in undecided else p if box[0] is not Artery.OTHER else 0.1, LabelSource.NETWORK,
                      undecided=n in undecided)
        for n, box in enumerate(boxes, 1)
    }  # fmt: skip
    return make_case(boxes, notes=notes, labels=LabelSource.NETWORK, **more)


def warned(*codes, case=None):
    case = case or networks()
    return replace(case, cautions=tuple(WarningRecord(code, f"about {code}") for code in codes))


ZERO = networks(boxes=())
LEFT = [(Artery.OTHER, k, 40, 40, 5, 450) for k in (0, 2, 4, 6)]
"""25 each: with 0.45 each they make more than 100 of 67 in most cases."""
LIKELIER_MODERATE = make_case(
    [*BOXES[:3], *LEFT],
    notes={n: LesionNote(0.99 if n < 4 else 0.45, LabelSource.NETWORK) for n in range(1, 8)},
    labels=LabelSource.NETWORK,
)
OTHER = BOXES[3:]
SITUATIONS = {
    "calcium, nothing undecided": networks(),
    "given labels": make_case(BOXES, labels=LabelSource.FILE),
    "by rules": make_case(BOXES),
    "zero, nothing seen": ZERO,
    "zero, something judged not coronary": networks(boxes=OTHER),
    "zero, something undecided": networks(1, boxes=OTHER),
    "a plaque called not coronary is undecided, and another category with it": networks(4),
    "a counted lesion is undecided, within its category": networks(2),
    "a counted lesion is undecided, and another category without it": networks(1, boxes=BOXES[:1]),
    "both kinds undecided": networks(1, 4),
    "every lesion undecided": networks(1, 2, 3, 4),
    "nothing undecided, and another category the likeliest": LIKELIER_MODERATE,
    "undecided lesions decided by a reader": networks(4).reassign(4, Artery.LAD),
    "an undecided lesion kept by a reader": networks(1).accept(1),
    "calcium without an artery": make_case(BOXES).reassign(1, Artery.UNASSIGNED),
    "all removed by a reader": make_case(BOXES[:1]).remove(1),
    "gating unknown": networks(header=replace(HEADER, is_gated=None)),
    "not gated, with the warning": warned("non-gated", case=networks(header=replace(HEADER, is_gated=False))),
    "another scheme": make_case(BOXES, risk_inputs=RiskInputs(scheme="accaha-2018")),
    "a scheme of ranges alone": make_case(BOXES, risk_inputs=RiskInputs(scheme="ai-cac")),
    "a person is known": make_case(BOXES, risk_inputs=PERSON),
    "a person is known, and a lesion undecided": networks(4, risk_inputs=PERSON),
    "very small": make_case(BOXES[2:3]),
    "very high": make_case([(Artery.LAD, n, 2, 2, 40, 450) for n in range(3)]),
    "nothing limits but the tube voltage is told": warned("kvp"),
    **{f"{code}, with calcium": warned(code) for code in EVALUABLE_BY_CODE},
    **{f"{code}, at zero": warned(code, case=ZERO) for code in EVALUABLE_BY_CODE},
    "contrast and a cut heart, at zero": warned("contrast", "heart-cut", "metal", "unsettled", case=ZERO),
}
SIGNED = {
    "signed, nothing undecided": warned("network"),
    "signed after correction": warned("network", "unsettled", case=networks(4).reassign(4, Artery.LAD)),
    "signed zero": warned("network", case=ZERO),
    "signed, another category the likeliest before": warned("network", case=LIKELIER_MODERATE),
    "signed, something that looks like metal": warned("metal-on-artery"),
    "signed, not evaluable": warned("contrast"),
}


def row(name, assessment):
    """The line of docs/reading.md."""
    cells = (name, assessment.headline(), " ".join(assessment.lines()))
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


ROWS = [
    *((name, case, None) for name, case in SITUATIONS.items()),
    *((name, case, SIGNATURE) for name, case in SIGNED.items()),
]


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


def test_there_are_forty_situations_and_no_row_of_others():
    assert len(ROWS) >= 40
    table = READING.read_text(encoding="utf-8").split("|---|---|---|\n")[1]
    names = [name for name, *_ in ROWS]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()] == names


@pytest.mark.parametrize(("name", "case", "signature"), ROWS, ids=[row[0] for row in ROWS])
def test_all_places_say_the_same(name, case, signature):
    assessment = answered(case, State.SIGNED if signature else case.assessment.state)
    rendered = render_report(case, signature=signature)
    assert letters_on(sheets_of(rendered)) == letters_in(rendered)
    page = re.sub(r"<style>.*?</style>|<[^>]+>", " ", rendered, flags=re.DOTALL)
    page = re.sub(r"\s+", " ", html.unescape(page))
    assert assessment.headline() in page
    for words in (assessment.range(), assessment.decide(), assessment.probability(), assessment.why()):
        assert words in page or words[:1].upper() + words[1:] in page
    document = case.report_document(assessment)["assessment"]
    assert document["texts"]["headline"] == assessment.headline()
    assert document["texts"]["sentence"] == assessment.sentence()
    report, total, *_ = (
        entry["resource"] for entry in fhir_bundle(case, object_uids(case, signature), signature=signature)["entry"]
    )
    for line in assessment.lines():
        assert line in report["conclusion"]
        assert {"text": line} in total["note"]
        assert line in total_words(case.report, assessment)
        if signature is None:
            assert line in result_table(case)
    assert row(name, assessment) in READING.read_text(encoding="utf-8"), row(name, assessment)
