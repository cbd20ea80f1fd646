"""Case folders and reports that HeartLens 0.1 wrote still open, with the same numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from heartlens.case.case import OLD_REPORT_SCHEMAS, Case
from heartlens.case.folder import load_case
from heartlens.case.seal import SealState, read_seal
from heartlens.scoring.report import ScoreReport

SAVED = Path(__file__).parent / "data" / "version_1"
CASES = ("case_v1", "case_v1_network", "case_v1_segmentation")


def opened(name: str, tmp_path: Path) -> Case:
    """The saved case, from a copy in a place where nobody has worked before."""
    folder = next((SAVED / name).rglob("case.json")).parent
    return load_case(Path(shutil.copytree(folder, tmp_path / "case")))


def renamed(document: dict[str, Any]) -> dict[str, Any]:
    """A report of version 1 in the words of version 2: what was for `review` is `undecided`, and no site was known."""
    lesions = [{key: value for key, value in row.items() if key != "review"} for row in document["lesions"]]
    for row, old in zip(lesions, document["lesions"], strict=True):
        row["undecided"] = old.get("review", False)
        row["site"] = None
    return {**document, "lesions": lesions}


@pytest.mark.parametrize("name", CASES)
def test_a_case_of_version_1_replays_to_the_numbers_that_were_saved(name, tmp_path):
    expected = renamed(json.loads((SAVED / name / "expected.json").read_text()))
    found = json.loads(json.dumps(opened(name, tmp_path).report_document()))
    for row in found["lesions"]:
        assert row.pop("instances") == [], "a case of version 1 knows no instance numbers"
    for key in ("total", "arteries", "unassigned", "other", "lesions", "risk", "dropped_small", "slices"):
        assert found[key] == expected[key], key


def test_the_total_of_each_case_is_the_one_that_was_written_down(tmp_path):
    totals = {name: opened(name, tmp_path / name).report.total.agatston for name in CASES}
    assert totals == {
        "case_v1": 543.5160288,
        "case_v1_network": 146.896224,
        "case_v1_segmentation": 88.13773439999999,
    }


def test_only_the_case_that_was_not_edited_after_signing_is_still_signed(tmp_path):
    signed = {}
    for name in CASES:
        case = opened(name, tmp_path / name)
        signed[name] = read_seal(tmp_path / name / "case", len(case.edits)).state is SealState.HOLDS
    assert signed == {"case_v1": True, "case_v1_network": False, "case_v1_segmentation": False}


@pytest.mark.parametrize("path", sorted((SAVED / "report_v1").glob("*.json")), ids=lambda path: path.stem)
def test_a_report_of_version_1_is_read_and_its_parts_still_add_up(path):
    document = json.loads(path.read_text())
    assert document["schema"] in OLD_REPORT_SCHEMAS
    report = ScoreReport.from_json(document)
    document = renamed(document)
    assert set(report.findings) <= {None}, "a report of version 1 knows no sites"
    found = json.loads(json.dumps(report.to_json()))
    del found["findings"]
    assert {key: document[key] for key in found} == found
