"""The reader's journey, whole: score, cancel, score, correct, undo, sign, close, re-open. Real clicks, keys, worker,
scene and segment editor logic; the totals are checked by a scorer that shares no code with ours."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from desktop.reader import slicer
from plain_scoring import plain_score
from slicer.util import arrayFromSegmentBinaryLabelmap

from heartlens.case.folder import load_case, save_case
from heartlens.core.lesions import CORONARY, Artery
from heartlens.risk.evaluable import State

pytestmark = pytest.mark.slow


def scored_plainly(panel):
    """Agatston per artery of the voxels that are in the segmentation on the screen."""
    nodes, ct = panel.nodes, panel.reading.case.source_ct
    labels = np.zeros(ct.shape, np.uint8)
    for artery in Artery:
        labels[arrayFromSegmentBinaryLabelmap(nodes.segmentation, artery.name, nodes.volume) > 0] = artery
    k, j, i = (slice(at.min(), at.max() + 1) for at in np.nonzero(labels))
    out, *_ = plain_score(
        ct.hu[k, j, i].tolist(),
        labels[k, j, i].tolist(),
        pixel_area=ct.pixel_area_mm2,
        increment=ct.increment_mm,
        edges=(130, 200, 300, 400),
        min_area=1.0,
        min_pixels=1,
        connectivity=4,
        k_factor=ct.increment_mm / 3,
        mass_factor=0.0,
    )
    return {artery: out[artery]["agatston"] for artery in Artery}


def test_phantom_to_signed_report_and_back(reader, phantom_ct):
    panel, ui = reader.panel, reader.ui

    reader.press_score()
    reader.wait(lambda: ui.progressBar.value > 0)
    reader.press_score()  # cancel
    reader.wait(lambda: ui.scoreButton.text == "Score")
    assert panel.reading is None
    reader.score()
    automatic = {artery: panel.reading.case.report.arteries[artery].agatston for artery in CORONARY}
    assert automatic[Artery.LAD] > 100

    # Two lesions go to other arteries: one by the button, one by its key.
    first, second = (row.id for row in panel.reading.case.report.lesions[:2])
    reader.hold_row(0)
    reader.click(ui.lcxButton)
    assert panel.reading.case.lesions.arteries[first] is Artery.LCX
    reader.hold_row_of(second)
    reader.key("4")
    assert panel.reading.case.lesions.arteries[second] is Artery.RCA

    # Paint over calcium that nobody took, erase a lesion, and take the erasing back.
    before = panel.reading.case
    reader.paint_free_calcium("LM")
    assert panel.reading.case.report.arteries[Artery.LM].agatston > 0
    lesions = len(panel.reading.case.report.lesions)
    strokes = reader.erase_lesion(panel.reading.case.report.lesions[0].id)
    assert len(panel.reading.case.report.lesions) == lesions - 1
    for _ in range(strokes):
        reader.key("Z")
    assert len(panel.reading.case.report.lesions) == lesions
    assert len(panel.reading.case.edits) > len(before.edits)

    report = panel.reading.case.report
    plain = scored_plainly(panel)
    for artery in CORONARY:
        assert report.arteries[artery].agatston == pytest.approx(plain[artery])
    assert report.total.agatston == pytest.approx(sum(plain[a] for a in (*CORONARY, Artery.UNASSIGNED)))

    # What the panel shows is the case, rounded.
    total = ui.totalsTable.rowCount - 1
    assert ui.totalsTable.item(total, 1).text() == f"{round(sum(automatic.values()))}"
    assert ui.totalsTable.item(total, 2).text() == f"{round(report.total.agatston)}"

    # Sign: blocked until confirmed and named.
    assert not ui.signButton.enabled
    reader.type_into(ui.observerEdit, "Reader^Rita")
    reader.type_into(ui.organizationEdit, "Phantom Hospital")
    assert not ui.signButton.enabled
    reader.click(ui.confirmCheckBox)
    assert ui.signButton.enabled
    reader.click(ui.signButton)
    assert reader.dialogs.shown == []
    out = panel.reading.folder.parent / "signed"
    assert {path.name for path in out.iterdir()} == {
        "report.json", "lesions.csv", "segmentation.seg.nrrd", "segmentation.dcm", "report.dcm", "report.html",
        "labels.nrrd", "case",
    }  # fmt: skip
    sr = pydicom.dcmread(out / "report.dcm")
    assert sr.VerificationFlag == "VERIFIED"
    assert sr.VerifyingObserverSequence[0].VerifyingObserverName == "Reader^Rita"
    seg = pydicom.dcmread(out / "segmentation.dcm")
    assert {s.SegmentLabel for s in seg.SegmentSequence} >= {"LM", "LAD", "LCX", "RCA"}
    assert int(seg.pixel_array.sum()) == int((panel.reading.case.scored_codes > 0).sum())
    assert "SIGNED by Rita Reader, Phantom Hospital" in (out / "report.html").read_text()
    assert json.loads((out / "report.json").read_text())["signature"]["organization"] == "Phantom Hospital"

    # Close, re-open: the same numbers, bit for bit.
    folder, shown = panel.reading.folder, reader.shown()
    reader.close_scene()
    assert panel.reading is None
    assert ui.totalsTable.rowCount == 0
    reader.open_case(folder)
    assert reader.dialogs.shown == []
    assert panel.reading.case.report == report
    assert reader.shown() == shown
    assert panel.reading.signature.observer == "Reader^Rita"
    signed = replace(panel.reading.case.assessment, state=State.SIGNED)
    assert json.loads((folder / "report.json").read_text()) == json.loads(
        json.dumps(panel.reading.case.report_document(signed))
    )

    # What was signed can be written again on another day, by the same name and of the same moment.
    assert not ui.signButton.enabled
    reader.click(ui.exportButton)
    again = pydicom.dcmread(folder.parent / "signed-2" / "report.dcm")
    assert again.VerifyingObserverSequence == sr.VerifyingObserverSequence


def test_what_nobody_signed_is_exported_as_unverified(reading):
    reading.click(reading.ui.exportButton)
    out = reading.panel.reading.folder.parent / "unsigned"
    assert pydicom.dcmread(out / "report.dcm").VerificationFlag == "UNVERIFIED"
    assert not (out / "labels.nrrd").exists(), "nobody checked the labels"
    assert "signature" not in json.loads((out / "report.json").read_text())


def test_a_click_in_a_slice_view_gives_the_island_to_the_active_artery(reading):
    panel = reading.panel
    lesion = next(row for row in panel.reading.case.report.lesions if row.artery is Artery.LAD)
    reading.key("3")
    reading.click_in_view("Red", lesion.id)
    assert panel.reading.case.lesions.arteries[lesion.id] is Artery.LCX
    assert reading.shown_artery(lesion.id) == "LCX"


def test_ctrl_click_takes_only_the_part_in_the_slice(reading):
    panel = reading.panel
    lesion = next(row for row in panel.reading.case.report.lesions if row.slices[1] > row.slices[0])
    total = panel.reading.case.report.total.agatston
    reading.key("4")
    reading.click_in_view("Red", lesion.id, ctrl=True)
    report = panel.reading.case.report
    slices = [row.slices for row in report.lesions if row.artery is Artery.RCA and row.source == "reader"]
    assert [last - first for first, last in slices] == [0]
    assert report.total.agatston == pytest.approx(total)


def test_a_drag_is_no_click(reading):
    lesion = reading.panel.reading.case.report.lesions[0]
    reading.key("3")
    reading.click_in_view("Red", lesion.id, drag=True)
    assert reading.panel.reading.case.edits == ()
    reading.click_in_view("Red", lesion.id)
    assert len(reading.panel.reading.case.edits) == 1, "at that place a click gives it away"


def test_while_an_effect_is_active_the_views_belong_to_it(reading):
    lesion = reading.panel.reading.case.report.lesions[0]
    reading.key("3")
    reading.ui.segmentEditor.setActiveEffectByName("Scissors")
    reading.click_in_view("Red", lesion.id)
    assert reading.panel.reading.case.edits == ()


def test_a_view_of_another_layout_takes_clicks_as_well(reading):
    from desktop.slice_view import slice_view

    lesion = next(row for row in reading.panel.reading.case.report.lesions if row.artery is Artery.LAD)
    reading.key("3")
    slicer.app.layoutManager().show(Red2=slice_view("Red2"))
    reading.click_in_view("Red2", lesion.id)
    assert reading.panel.reading.case.lesions.arteries[lesion.id] is Artery.LCX
    assert len(reading.panel.reading.case.edits) == 1


def test_a_click_that_places_a_markup_is_not_ours(reading):
    lesion = reading.panel.reading.case.report.lesions[0]
    reading.key("3")
    node = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    node.SetCurrentInteractionMode(node.Place)
    reading.click_in_view("Red", lesion.id)
    assert reading.panel.reading.case.edits == ()
    node.SetCurrentInteractionMode(node.ViewTransform)
    reading.click_in_view("Red", lesion.id)
    assert len(reading.panel.reading.case.edits) == 1


def test_a_click_beside_calcium_changes_nothing_and_opens_no_dialog(reading):
    reading.panel.onViewClick((0.0, 0.0, -1000.0), False)
    assert reading.panel.reading.case.edits == ()
    assert reading.dialogs.shown == []


def test_next_and_previous_walk_the_table_and_center_the_views(reading):
    rows = reading.panel.reading.case.report.lesions
    reading.key("N")
    reading.key("N")
    assert reading.panel.review.selectedLesion() == rows[1].id
    reading.key("P")
    assert reading.panel.review.selectedLesion() == rows[0].id
    x, y, z = rows[0].centroid_lps_mm
    for view in reading.module.views.values():
        matrix = view.node.GetSliceToRAS()
        center = [matrix.GetElement(axis, 3) for axis in range(3)]
        assert center == pytest.approx([-x, -y, z])


def test_delete_removes_the_held_lesion_and_redo_does_it_again(reading):
    panel = reading.panel
    lesion = panel.reading.case.report.lesions[0].id
    reading.hold_row(0)
    reading.key("Del")
    assert lesion not in panel.reading.case.lesions.arteries
    reading.key("Z")
    assert lesion in panel.reading.case.lesions.arteries
    reading.key("Y")
    assert lesion not in panel.reading.case.lesions.arteries


def test_an_artery_key_without_a_held_lesion_moves_none(reading):
    reading.key("4")
    assert reading.panel.reading.case.edits == ()
    assert reading.panel.parameters.artery is Artery.RCA
    assert reading.panel.review.brush.node.GetSelectedSegmentID() == "RCA"


def test_every_edit_is_on_the_disk_at_once(reading):
    journal = reading.panel.reading.folder / "edits.jsonl"
    reading.hold_row(0)
    reading.click(reading.ui.rcaButton)
    assert len(journal.read_text().splitlines()) == 1
    reading.key("Z")
    assert [json.loads(line)["kind"] for line in journal.read_text().splitlines()] == ["reassign", "undo"]


def test_an_edit_after_signing_takes_the_signature_back(reading):
    assert reading.ui.riskLabel.text.startswith("DRAFT, read by nobody. ")
    reading.sign()
    assert reading.panel.reading.signature is not None
    assert reading.ui.riskLabel.text.startswith("SIGNED by ")
    reading.hold_row(0)
    reading.click(reading.ui.rcaButton)
    assert reading.panel.reading.signature is None
    assert reading.ui.riskLabel.text.startswith("READ, edited by a reader and not signed. ")
    assert not reading.ui.signButton.enabled
    assert not reading.ui.confirmCheckBox.checked
    reading.sign()
    names = {path.name for path in reading.panel.reading.folder.parent.iterdir()}
    assert {"signed", "signed-2"} <= names


def test_keys_are_gone_when_another_module_is_open(reading):
    reading.hold_row(0)
    reading.module.widget.exit()
    reading.key("4")
    assert reading.panel.reading.case.edits == ()
    assert not reading.panel.views.clicks.areInstalled
    reading.module.widget.enter()
    reading.hold_row(0)
    reading.key("4")
    assert len(reading.panel.reading.case.edits) == 1


def test_typing_a_name_presses_no_shortcut(reading):
    reading.hold_row(0)
    reading.type_into(reading.ui.observerEdit, "Zyn 1234")
    assert reading.ui.observerEdit.text == "Zyn 1234"
    assert reading.panel.reading.case.edits == ()


def test_typing_an_age_presses_no_shortcut(reading):
    from PySide6.QtTest import QTest

    reading.hold_row(0)
    reading.ui.ageSpinBox.setFocus()
    reading.ui.ageSpinBox.selectAll()
    QTest.keyClicks(reading.ui.ageSpinBox, "40")
    assert reading.ui.ageSpinBox.value == 40
    assert reading.panel.reading.case.edits == ()
    assert reading.panel.reading.case.risk_inputs.age_years == 40


def test_a_second_run_takes_the_place_of_the_first(reader):
    reader.score()
    first = reader.panel.reading.folder
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    reader.hold_row(0)
    reader.click(reader.ui.rcaButton)
    reader.press_score()
    reader.wait(lambda: reader.panel.reading.folder != first)
    assert reader.panel.reading.case.edits == ()
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert len((first / "edits.jsonl").read_text().splitlines()) == 1, "the first case keeps its edits"


def test_colors_can_be_hidden_and_shown(reading):
    display = reading.panel.nodes.segmentation.GetDisplayNode()
    reading.key("T")
    assert not display.GetVisibility2DFill()
    assert not display.GetVisibility2DOutline()
    assert display.GetVisibility(), "in 3-D, and for Slicer's effects, it is shown as before"
    reading.key("T")
    assert display.GetVisibility2DFill()
    assert display.GetVisibility2DOutline()


def test_a_case_opened_from_its_folder_takes_the_volume_that_is_there(reading):
    assert reading.panel.nodes.volume is reading.volume


def test_the_report_in_the_case_folder_follows_the_edits(reading):
    reading.hold_row(0)
    reading.click(reading.ui.otherButton)
    total = reading.panel.reading.case.report.total.agatston
    saved = reading.panel.reading.folder / "report.json"
    reading.wait(lambda: json.loads(saved.read_text())["total"]["agatston"] == total)


def test_the_patient_and_the_table_can_be_told_after_scoring_and_no_edit_is_lost(reading):
    panel, ui = reading.panel, reading.ui
    reading.hold_row(0)
    reading.click(ui.rcaButton)
    report = panel.reading.case.report
    assert "Not available: MESA percentile (not known: race)" in ui.contextLabel.text
    ui.ageSpinBox.setValue(60)
    ui.raceComboBox.setCurrentIndex(ui.raceComboBox.findText("White"))
    assert "60-year-old White woman" in ui.contextLabel.text
    ui.schemeComboBox.setCurrentIndex(ui.schemeComboBox.findData("five-bin"))
    assert panel.reading.case.risk.scheme == "five-bin"
    assert panel.reading.case.report == report
    folder, shown = panel.reading.folder, reading.shown()
    reading.close_scene()
    assert ui.ageSpinBox.value == 0
    reading.open_case(folder)
    assert (ui.ageSpinBox.value, ui.sexComboBox.currentText) == (60, "female")
    assert ui.raceComboBox.currentText == "White"
    assert reading.shown() == shown
    assert len(panel.reading.case.edits) == 1


def test_another_volume_is_not_taken_for_the_same_patient(reading):
    reading.ui.raceComboBox.setCurrentIndex(1)
    folder = reading.panel.reading.folder
    before = (folder / "case.json").read_text()
    slicer.util.addVolumeFromArray(np.zeros((24, 64, 64), np.int16), name="other")
    reading.ui.volumeSelector.setCurrentNode(slicer.util.getNode("other"))
    assert reading.panel.reading is None
    assert reading.ui.ageSpinBox.value == 0
    assert reading.ui.sexComboBox.currentText == "sex unknown"
    assert reading.ui.raceComboBox.currentText == "race not stated"
    assert (folder / "case.json").read_text() == before
    reading.wait(lambda: not reading.panel.later.isWaiting)
    assert reading.dialogs.shown == []


def test_lesions_that_the_networks_were_not_sure_of_are_marked_until_the_reader_decides(reader, scored_case, tmp_path):
    from dataclasses import replace

    from heartlens.core.lesions import LesionMap

    case = load_case(scored_case / "case")
    unsure = case.report.lesions[2].id
    notes = {**case.auto.notes, unsure: replace(case.auto.notes[unsure], probability=0.51, undecided=True)}
    save_case(
        replace(case, inputs=replace(case.inputs, auto=LesionMap(case.auto.labels, case.auto.arteries, notes))),
        tmp_path / "case",
    )
    reader.open_case(tmp_path / "case")
    table = reader.ui.lesionTable
    weights = [
        table.item(r, 5).text() for r in range(table.rowCount)
    ]  # 1 from 130 HU, 2 from 200, 3 from 300, 4 from 400
    assert weights == [str(min(int(table.item(r, 4).text()) // 100, 4)) for r in range(table.rowCount)]
    confidence = [table.item(r, 7).text() for r in range(table.rowCount)]
    assert [text for text in confidence if "?" in text] == ["0.51 ?"]
    assert confidence[0] == "0.51 ?", "what is to be decided comes first"
    assert "Borderline, review first: 1 (marked ?)." in reader.ui.hintLabel.text
    reader.hold_row_of(unsure)
    reader.click(reader.ui.lcxButton)
    assert "?" not in reader.ui.hintLabel.text
    assert reader.lesions_shown()[2] == unsure
