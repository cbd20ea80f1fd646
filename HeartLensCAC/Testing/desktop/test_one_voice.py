"""The Slicer panel says of a score what report.json, the page and docs/reading.md say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from situations import ROWS

REPOSITORY = Path(__file__).resolve().parents[3]
READING = (REPOSITORY / "docs" / "reading.md").read_text(encoding="utf-8")
sys.path.append(str(REPOSITORY / "scripts"))
import reading_page  # noqa: E402  # a script, and no package


@pytest.mark.parametrize("situation", ROWS, ids=[one.name for one in ROWS])
def test_the_panel_says_what_the_other_outputs_say(slicer_running, situation):
    import voices

    said = reading_page.panel_says(situation)
    assert said.facts == voices.by_json(situation.case.report_document(situation.assessment)).facts
    (row,) = [line for line in READING.split("## Where it is said")[1].splitlines() if f"| {situation.name} |" in line]
    assert row.split(" | ")[5] == said.words
