"""Drafts whose every sentence can be worked out by hand, and answers of models that have to be refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

from report_cases import BOXES, HEADER, make_case

from heartlens.case.signature import Signature, answered, state_words
from heartlens.core.errors import WarningRecord
from heartlens.core.lesions import Artery, LesionNote, Site
from heartlens.core.provenance import LabelSource
from heartlens.report.draft.sentences import DraftText
from heartlens.report.draft.template import draft_of
from heartlens.risk.evaluable import State

ANSWERS = json.loads((Path(__file__).parent / "data" / "draft_answers.json").read_text(encoding="utf-8"))
"""Answers to `BUSY` and `SILENT`: what is wrong with each, and by which code it is refused; and honest ones."""

SCANNED = "2026-11-29"
READER = Signature("Reader^Rita", "Clinic {score}", "2026-11-29T10:00:00+01:00")


def networks(boxes, *undecided, site=None, codes=(), **more):
    """A case whose lesions the networks named; some of them undecided, and warnings with it."""
    notes = {
        n: LesionNote(
            0.5 if n in undecided else 0.99 if box[0] is not Artery.OTHER else 0.1,
            LabelSource.NETWORK,
            undecided=n in undecided,
            site=site if box[0] is Artery.OTHER else None,
        )
        for n, box in enumerate(boxes, 1)
    }
    case = make_case(boxes, notes=notes, labels=LabelSource.NETWORK, **more)
    return replace(case, cautions=tuple(WarningRecord(code, f"about {code}") for code in codes))


def draft(case, signature=None, state=None) -> DraftText:
    """As the command writes it."""
    state = State.SIGNED if signature else state or case.assessment.state
    assessment = answered(case, state)
    return draft_of(
        case.report,
        assessment,
        state=state_words(state, signature),
        acquired=date.fromisoformat(SCANNED),
        labels=case.provenance.labels,
    )


UNGATED = replace(HEADER, is_gated=False, acquired=SCANNED)
BUSY_CASE = networks(BOXES, 1, 4, site=Site.AORTIC_VALVE, codes=("non-gated",), header=UNGATED)
"""LAD 50, LM 16, RCA 1; the LAD and 36 at the aortic valve are undecided: 17 to 103."""

ZERO_CASE = networks(())
CONTRAST_CASE = networks(BOXES, codes=("contrast",))
DRAFTS = {"busy": draft(BUSY_CASE), "zero": draft(ZERO_CASE), "contrast": draft(CONTRAST_CASE)}


def answer_of(row) -> str:
    """What the model says in a row of `ANSWERS`: whole, or the draft's own sentences with some words changed."""
    if "answer" in row:
        return row["answer"] * row.get("times", 1)
    text = DRAFTS[row["draft"]].skeleton
    for old, new in row["changes"].items():
        assert text.count(old) == 1, f"{row['name']}: {old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text
