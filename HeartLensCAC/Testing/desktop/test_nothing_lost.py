"""What the panel must not lose: a report that waits for its timer, and an age that is known to the month."""

from __future__ import annotations

import json

import pytest
from desktop.reader import Reader
from slicer.util import (
    arrayFromSegmentBinaryLabelmap,
    arrayFromVolume,
    updateSegmentBinaryLabelmapFromArray,
)

pytestmark = pytest.mark.slow

MONTH = 1 / 12


@pytest.fixture
def reading(reading):
    """Its report is written by nothing but a timer of ten minutes, or whoever does not wait."""
    reading.panel.report._timer.setInterval(600_000)
    return reading


@pytest.fixture
def of_an_exact_age(module, phantom_ct, scored_case):
    """The same of a person of 63 years and 9 months, as a header of 765 months says."""
    path = scored_case / "case" / "case.json"
    document = json.loads(path.read_text())
    document["risk_inputs"] |= {"age_years": 765 * MONTH, "sex": "F", "race": "white"}
    path.write_text(json.dumps(document))
    reader = Reader(module, phantom_ct)
    reader.open_case(scored_case)
    return reader


def exclude_the_first_lesion(reading):
    """The total before, and after, and where it is to be written."""
    before = reading.panel.reading.case.report.total.agatston
    reading.hold_row(0)
    reading.click(reading.ui.otherButton)
    after = reading.panel.reading.case.report.total.agatston
    saved = reading.panel.reading.folder / "report.json"
    assert after < before
    assert json.loads(saved.read_text())["total"]["agatston"] == before, "it waits for the timer"
    return after, saved


def test_leaving_the_module_writes_the_report_that_waits(reading):
    total, saved = exclude_the_first_lesion(reading)
    reading.module.widget.exit()
    assert json.loads(saved.read_text())["total"]["agatston"] == total


def test_closing_the_case_writes_the_report_that_waits(reading):
    total, saved = exclude_the_first_lesion(reading)
    reading.panel.closeCase()
    assert json.loads(saved.read_text())["total"]["agatston"] == total


def test_an_exact_age_stays_exact_when_something_else_is_said_of_the_person(of_an_exact_age):
    panel, ui = of_an_exact_age.panel, of_an_exact_age.ui
    assert ui.ageSpinBox.value == 63, "the panel shows completed years"
    ui.sexComboBox.setCurrentIndex(ui.sexComboBox.findData("M"))
    assert panel.reading.case.risk_inputs.sex == "M"
    assert panel.reading.case.risk_inputs.age_years == 765 * MONTH
    ui.schemeComboBox.setCurrentIndex(ui.schemeComboBox.findData("five-bin"))
    assert panel.reading.case.risk_inputs.age_years == 765 * MONTH


def test_another_age_that_is_typed_takes_the_place_of_the_exact_one(of_an_exact_age):
    of_an_exact_age.ui.ageSpinBox.setValue(64)
    assert of_an_exact_age.panel.reading.case.risk_inputs.age_years == 64
    of_an_exact_age.ui.ageSpinBox.setValue(0)
    assert of_an_exact_age.panel.reading.case.risk_inputs.age_years is None, "0 stands for unknown"


def test_another_run_writes_the_report_that_waits(reading):
    total, saved = exclude_the_first_lesion(reading)
    reading.press_score()
    assert json.loads(saved.read_text())["total"]["agatston"] == total
    reading.press_score()  # cancel
    reading.wait(lambda: reading.ui.scoreButton.text == "Score")


def test_undo_takes_back_a_stroke_that_waits_for_its_timer(reading):
    """The first edit of the case: before it is committed there is nothing else to undo."""
    panel = reading.panel
    lesion = panel.reading.case.report.lesions[0]
    panel._strokeTimer.setInterval(600_000)  # longer than any test waits
    segmentation = panel.nodes.segmentation
    painted = arrayFromSegmentBinaryLabelmap(segmentation, lesion.artery.name, panel.nodes.volume)
    painted[panel.reading.case.lesions.labels == lesion.id] = 0
    updateSegmentBinaryLabelmapFromArray(painted, segmentation, lesion.artery.name, panel.nodes.volume)
    assert panel._strokeTimer.active
    panel.undo()
    assert [edit.kind for edit in panel.reading.case.edits] == ["remove", "undo"]
    assert lesion.id in panel.reading.case.lesions.arteries


def test_a_case_does_not_take_a_volume_whose_voxels_were_changed(module, phantom_ct, scored_case):
    reader = Reader(module, phantom_ct)
    arrayFromVolume(reader.volume)[20, 90:94, 90:94] += 1
    reader.open_case(scored_case)
    assert reader.panel.nodes.volume is not reader.volume
    assert (arrayFromVolume(reader.panel.nodes.volume) == reader.panel.reading.case.source_ct.hu).all()
