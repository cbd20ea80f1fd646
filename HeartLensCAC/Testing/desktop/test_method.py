"""The Method box has what the command line has, scores a segmentation, and is where the remedy of a caution leads."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pydicom
import pytest
from desktop.reader import Reader, slicer
from PySide6.QtWidgets import QPushButton

from heartlens.app.options import add_score_options, options_of, request_of
from heartlens.core.lesions import CORONARY, Artery
from heartlens.core.protocol import EDGES_BY_KVP_HU, PROFILES

pytestmark = pytest.mark.slow


@pytest.fixture
def at_100_kvp(module, phantom_ct, tmp_path):
    """The phantom as if it had been acquired at 100 kVp."""
    folder = tmp_path / "100"
    folder.mkdir()
    for path in phantom_ct.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.KVP = "100"
        dataset.save_as(folder / path.name)
    return Reader(module, folder)


def buttons(widget):
    return {button.text: button for button in widget.findChildren(QPushButton) if button.isVisibleTo(widget)}


def request_of_panel(panel):
    words = {name: value for name, value in panel.score.options().items() if name not in ("bundle", "device", "scheme")}
    return request_of(options_of(words))


# The box


def test_the_box_says_every_protocol_option_of_the_command_line(module):
    parser = argparse.ArgumentParser(add_help=False)
    add_score_options(parser)
    (group,) = [group for group in parser._action_groups if group.title == "protocol"]
    names = {action.option_strings[0][2:] for action in group._group_actions}
    assert set(module.panel.scoring.method.options()) == names


def test_what_nobody_chose_scores_as_the_command_line_does_without_options(module):
    request = request_of_panel(module.panel)
    assert request.protocol == PROFILES["agatston-1990"]
    assert (request.kvp, request.kvp_adapted, request.thickness_mm) == (None, False, None)


def test_every_choice_reaches_the_request(module):
    ui = module.ui
    ui.profileComboBox.setCurrentIndex(ui.profileComboBox.findData("philips"))
    ui.connectivityComboBox.setCurrentIndex(ui.connectivityComboBox.findData("8"))
    ui.normalizationComboBox.setCurrentIndex(ui.normalizationComboBox.findData("none"))
    ui.kvpSpinBox.setValue(100)
    ui.thicknessSpinBox.setValue(2.5)
    ui.slabSpinBox.setValue(3)
    ui.minimumAreaSpinBox.setValue(0)
    ui.massFactorSpinBox.setValue(0.0008)
    ui.kvpAdaptedCheckBox.setChecked(True)
    ui.isotropicCheckBox.setChecked(True)
    request = request_of_panel(module.panel)
    protocol = request.protocol
    assert (protocol.name, protocol.connectivity, protocol.normalisation) == ("philips", 8, "none")
    assert (protocol.minimum_area_mm2, protocol.slab_mm, protocol.mass_factor_mg_per_mm3_hu) == (0.0, 3.0, 0.0008)
    assert protocol.isotropic_volume
    assert (request.kvp, request.kvp_adapted, request.thickness_mm) == (100.0, True, 2.5)


def test_the_method_is_saved_with_the_scene_and_goes_with_it(module):
    ui = module.ui
    ui.slabSpinBox.setValue(3)
    ui.kvpAdaptedCheckBox.setChecked(True)
    assert json.loads(module.panel.parameters.node.GetParameter("method")) == {
        "profile": "agatston-1990", "slab-mm": 3.0, "kvp-adapted": True,
    }  # fmt: skip
    said = module.panel.parameters.node.GetParameter("method")
    slicer.mrmlScene.Clear()
    assert (ui.slabSpinBox.value, ui.kvpAdaptedCheckBox.checked) == (0.0, False)
    module.panel.parameters.node.SetParameter("method", said)
    module.panel.score.setParameters(module.panel.parameters)
    assert (ui.slabSpinBox.value, ui.kvpAdaptedCheckBox.checked) == (3.0, True)


@pytest.mark.parametrize("text", ["[1]", "no", '{"kvp": "high", "rm": 1}'])
def test_a_method_that_was_written_by_hand_says_nothing(module, text):
    module.panel.parameters.node.SetParameter("method", text)
    module.panel.score.setParameters(module.panel.parameters)
    assert request_of_panel(module.panel).protocol == PROFILES["agatston-1990"]


def test_a_case_is_scored_by_the_method_of_the_box_and_says_so(reader):
    ui = reader.ui
    ui.minimumAreaSpinBox.setValue(3)
    ui.massFactorSpinBox.setValue(0.0008)
    reader.score()
    protocol = reader.panel.reading.case.protocol
    assert (protocol.minimum_area_mm2, protocol.mass_factor_mg_per_mm3_hu) == (3.0, 0.0008)
    report = reader.panel.reading.case.report
    assert report.total.mass_mg > 0
    header = [ui.totalsTable.horizontalHeaderItem(c).text() for c in range(ui.totalsTable.columnCount)]
    assert header[-1] == "mass mg"


# Score this segmentation


def test_what_was_said_of_one_scan_is_forgotten_with_it_and_never_overrules_a_file(reader, monkeypatch):
    """The files say 120 kVp; 100 was stated before they were there, or is typed after."""
    ui, runs = reader.ui, []
    monkeypatch.setattr(reader.panel.scoring.section, "start", runs.append)
    ui.kvpSpinBox.setValue(100)
    chosen = reader.volume
    ui.volumeSelector.setCurrentNode(None)
    ui.volumeSelector.setCurrentNode(chosen)
    assert reader.panel.scoring.method.options()["kvp"] is None
    ui.kvpSpinBox.setValue(100)
    reader.panel.scoring.start()
    (run,) = runs
    assert json.loads(run.command)["options"]["kvp"] is None


def test_a_segmentation_of_other_hands_is_scored_with_no_network(module, reader, phantom_ct, scored_case):
    """Of the case's own calcium, LAD is given as RCA: the score is that of the voxels, under the other name."""
    reader.open_case(scored_case)
    before = reader.panel.reading.case.report
    lad = slicer.util.arrayFromSegmentBinaryLabelmap(reader.panel.nodes.segmentation, "LAD", reader.volume) > 0
    reader.close_scene()
    volume = module.load(phantom_ct)
    module.ui.volumeSelector.setCurrentNode(volume)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "by hand")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("s1", "RCA")
    slicer.util.updateSegmentBinaryLabelmapFromArray(lad.astype(np.uint8), node, "s1", volume)
    assert module.ui.scoreButton.text == "Score"
    module.ui.segmentationSelector.setCurrentNode(node)
    assert module.ui.scoreButton.text == "Score the segmentation by hand"
    reader.press_score()
    reader.wait(lambda: reader.panel.reading is not None or reader.dialogs.shown, 120)
    assert reader.dialogs.shown == []
    case = reader.panel.reading.case
    assert case.provenance.labels.value == "segmentation"
    assert case.report.arteries[Artery.RCA].agatston == pytest.approx(before.arteries[Artery.LAD].agatston)
    assert sum(case.report.arteries[artery].lesions for artery in CORONARY if artery is not Artery.RCA) == 0
    assert list(reader.panel.reading.folder.parents[1].glob("*.seg.nrrd")) == []


def test_a_segment_that_names_no_artery_is_refused_before_a_run(reader):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    node.SetReferenceImageGeometryParameterFromVolumeNode(reader.volume)
    node.GetSegmentation().AddEmptySegment("s1", "liver")
    mask = np.zeros(slicer.util.arrayFromVolume(reader.volume).shape, np.uint8)
    mask[5, 5, 5] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "s1", reader.volume)
    reader.ui.segmentationSelector.setCurrentNode(node)
    reader.press_score()
    assert reader.panel.score.state == "idle"
    (text,) = reader.dialogs.shown
    assert "liver" in text


# The remedy of a caution is a button


def test_at_100_kvp_the_button_takes_the_thresholds_of_100_kvp(at_100_kvp):
    ui = at_100_kvp.ui
    assert "scored with the 120 kVp thresholds" in ui.warningsLabel.text
    at_100_kvp.click(buttons(ui.inputRemedies)["Use the thresholds for 100 kVp"])
    assert ui.kvpAdaptedCheckBox.checked
    assert "weights from 145, 222, 334, 446 HU" in ui.warningsLabel.text
    assert buttons(ui.inputRemedies) == {}
    at_100_kvp.score()
    assert at_100_kvp.panel.reading.case.protocol.edges_hu == EDGES_BY_KVP_HU[100]


def test_beside_a_result_the_button_scores_again(at_100_kvp):
    at_100_kvp.score()
    panel, ui = at_100_kvp.panel, at_100_kvp.ui
    first = panel.reading.folder
    total = panel.reading.case.report.total.agatston
    at_100_kvp.click(buttons(ui.resultRemedies)["Use the thresholds for 100 kVp and score again"])
    at_100_kvp.wait(lambda: panel.score.state == "idle", 300)
    assert at_100_kvp.dialogs.shown == []
    assert panel.reading.folder != first
    assert panel.reading.case.protocol.edges_hu == EDGES_BY_KVP_HU[100]
    assert panel.reading.case.report.total.agatston < total
    assert "Use the thresholds for 100 kVp and score again" not in buttons(ui.resultRemedies)


def test_what_the_file_does_not_say_is_asked_for_where_it_is_typed(module):
    hu = np.full((24, 64, 64), -1000, np.int16)
    hu[:, 16:48, 16:48] = 40
    volume = slicer.util.addVolumeFromArray(hu, ijkToRAS=np.diag([-1.5, -1.5, 3.0, 1.0]), name="plain")
    ui = module.ui
    ui.volumeSelector.setCurrentNode(volume)
    offered = buttons(ui.inputRemedies)
    assert list(offered) == ["State the tube voltage", "State the slice thickness"]
    assert "unknown tube voltage, " in ui.factsLabel.text
    module.widget.parent.activateWindow()
    offered["State the slice thickness"].click()
    assert not ui.methodSection.collapsed
    ui.thicknessSpinBox.setValue(3)
    ui.kvpSpinBox.setValue(120)
    assert buttons(ui.inputRemedies) == {}
    assert "120 kVp" in ui.factsLabel.text
    assert "3 mm thick" in ui.factsLabel.text
    assert "unknown" not in ui.warningsLabel.text.replace("kernel unknown", "").replace("gating unknown", "")


def test_thin_slices_are_averaged_by_the_button_and_the_remedy_of_rules_are_the_networks(module):
    from heartlens.core.ct import CTHeader
    from heartlens.core.errors import WarningRecord

    remedies, ui = module.panel.remedies, module.ui
    thin = remedies.of(WarningRecord("thin-slices", ""), CTHeader())
    assert (thin.text, thin.isWhole) == ("Average slices to 3 mm", True)
    thin.do()
    assert ui.slabSpinBox.value == 3.0
    assert remedies.of(WarningRecord("thin-slices", ""), CTHeader()) is None
    shipped = ui.bundleComboBox.itemText(0)
    assert remedies.of(WarningRecord("rules", ""), CTHeader()) is None, "networks are chosen"
    ui.bundleComboBox.setCurrentIndex(ui.bundleComboBox.findData("none"))
    remedies.of(WarningRecord("rules", ""), CTHeader()).do()
    assert ui.bundleComboBox.currentText == shipped
    assert remedies.of(WarningRecord("non-gated", ""), CTHeader()) is None, "nothing in the panel helps"
