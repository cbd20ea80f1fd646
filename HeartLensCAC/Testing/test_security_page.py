"""docs/security.md says what is so: the tests that it names are there, and it names every file that is written."""

from __future__ import annotations

import re
from pathlib import Path

from heartlens.app.export import LABELS
from heartlens.case.journal import JOURNAL, TORN
from heartlens.case.lock import LOCK
from heartlens.case.seal import KEY_VARIABLE, SEALED_FILES, SIGNATURE
from heartlens.report.outputs import MORE_FILES

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_test_that_holds_a_promise_is_there():
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 20
    there = {place: (Path(__file__).parent / place).read_text(encoding="utf-8") for place, _ in named}
    assert [(place, name) for place, name in named if f"def {name}(" not in there[place]] == []


def test_every_promise_names_what_holds_it():
    section = PAGE.split("## What is promised")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| promise")]
    assert len(rows) > 15
    assert [row for row in rows if ".py::" not in row and "kills.md" not in row] == []


def test_every_output_is_in_the_table_of_identities():
    section = PAGE.split("## Where identities may lie")[1].split("\n## ")[0]
    outputs = {"report.json", "report.html", "lesions.csv", "segmentation.seg.nrrd", "segmentation.dcm", "report.dcm"}
    outputs |= {
        *MORE_FILES.values(),
        "report-pdf.dcm",
        "labels.nrrd",
        LABELS,
        JOURNAL,
        TORN,
        LOCK,
        SIGNATURE,
        *SEALED_FILES,
    }
    assert [name for name in sorted(outputs) if name not in section] == []


def test_every_question_leads_to_a_section_that_is_there():
    anchors = {
        re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", PAGE, re.M)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors


def test_the_key_and_the_way_to_report_are_named():
    assert KEY_VARIABLE in PAGE
    assert "Report a vulnerability" in (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    assert "](docs/security.md)" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
