"""What can go wrong at the panel: one dialog, what and what next; the scene stays as it was, and no edit is lost."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from desktop.reader import Reader, slicer

from heartlens.case.folder import load_case, save_case
from heartlens.core.lesions import Artery

pytestmark = pytest.mark.slow


def nodes():
    """Names of every node that a user can see."""
    every = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    return sorted(node.GetID() for node in every if not node.GetHideFromEditors() and node.GetSaveWithScene())


def copies():
    """Copies of volumes that were made for a worker to read."""
    return [path.name for path in Path(slicer.app.temporaryPath).rglob("ct.nrrd")]


def the_dialog(reader):
    assert len(reader.dialogs.shown) == 1, reader.dialogs.shown
    text = reader.dialogs.shown.pop()
    assert "--" not in text, "the panel has no command-line options"
    return text


def test_a_volume_with_a_transform_is_refused_before_it_is_scored(reader):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    reader.volume.SetAndObserveTransformNodeID(transform.GetID())
    before = nodes()
    reader.press_score()
    assert "transform" in the_dialog(reader)
    assert nodes() == before
    assert not reader.ui.scoreButton.enabled
    assert "transform" in reader.ui.warningsLabel.text


def test_a_volume_without_hounsfield_units_is_asked_about(module):
    rng = np.random.default_rng(0)
    slicer.util.addVolumeFromArray(rng.integers(0, 900, (24, 64, 64)).astype(np.int16), name="MR")
    module.ui.volumeSelector.setCurrentNode(slicer.util.getNode("MR"))
    module.ui.bundleComboBox.setCurrentIndex(module.ui.bundleComboBox.findData("none"))
    module.dialogs.answer = False
    module.ui.scoreButton.click()
    assert "Score it anyway?" in the_dialog(module)
    assert module.ui.scoreButton.text == "Score"


@pytest.fixture
def enhanced(phantom_ct, tmp_path):
    """The phantom, with a header that names a contrast agent."""
    folder = tmp_path / "contrast"
    shutil.copytree(phantom_ct, folder)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ContrastBolusAgent = "Iohexol"
        dataset.save_as(path)
    return folder


def test_what_the_reader_does_not_allow_is_not_scored(module, enhanced):
    reader = Reader(module, enhanced)
    reader.dialogs.answer = False
    reader.press_score()
    reader.wait(lambda: reader.dialogs.shown)
    reader.wait(lambda: reader.ui.scoreButton.text == "Score")
    assert "Score it anyway?" in the_dialog(reader)
    assert reader.panel.reading is None
    assert list(module.cases.iterdir()) == []


def test_contrast_is_scored_only_when_the_reader_says_so_and_the_report_tells(module, enhanced):
    reader = Reader(module, enhanced)
    assert "contrast: agent named" in reader.ui.factsLabel.text
    reader.press_score()
    reader.wait(lambda: reader.panel.reading is not None)
    assert "Score it anyway?" in the_dialog(reader)
    assert "contrast" in {caution.code for caution in reader.panel.reading.case.cautions}
    assert "ContrastBolusAgent (0018,0010) names an agent" in reader.ui.cautionsLabel.text
    assert "Iohexol" not in reader.ui.cautionsLabel.text, "a text of the header goes into no report"


def test_of_two_volumes_of_one_study_the_chosen_one_is_scored(module, phantom_ct, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(phantom_ct, other)
    for path in other.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID += ".2"
        dataset.SOPInstanceUID += ".2"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path)
    module.load(phantom_ct)
    reader = Reader(module, other)
    reader.score()
    assert reader.panel.reading.case.source_ct.header.series_uid.endswith(".2")
    assert reader.panel.nodes.volume is reader.volume


def test_a_volume_changed_after_loading_is_scored_as_it_is_shown_and_gets_no_dicom(reader):
    voxels = slicer.util.arrayFromVolume(reader.volume)
    voxels[20, 90:94, 90:94] = 900
    slicer.util.arrayFromVolumeModified(reader.volume)
    reader.press_score()
    reader.wait(lambda: reader.panel.reading is not None)
    assert "changed after it was loaded" in the_dialog(reader)
    case = reader.panel.reading.case
    assert case.source_ct.hu[20, 91, 91] == 900
    assert case.source_ct.header.kvp == 120
    assert case.source_ct.header.slice_thickness_mm == 3
    reader.sign()
    written = {path.name for path in (reader.panel.reading.folder.parent / "signed").iterdir()}
    assert "report.json" in written
    assert not {"segmentation.dcm", "report.dcm"} & written

    folder, report = reader.panel.reading.folder, reader.panel.reading.case.report
    assert copies() == [], "the copy that the worker read is gone"
    reader.close_scene()
    reader.open_case(folder)
    assert reader.panel.reading.case.report == report


def test_no_copy_of_a_scan_is_left_by_a_run_that_was_cancelled_or_abandoned(module, phantom_ct):
    reader = Reader(module, phantom_ct)
    reader.volume.RemoveAttribute("DICOM.instanceUIDs")
    reader.volume.RemoveAttribute("HeartLens.DicomFolder")
    reader.press_score()
    assert len(copies()) == 1
    reader.press_score()  # cancel
    reader.wait(lambda: reader.ui.scoreButton.text == "Score")
    assert copies() == []
    reader.press_score()
    reader.wait(lambda: reader.ui.progressBar.value > 0)
    reader.close_scene()
    assert copies() == []


def test_a_volume_deleted_while_it_is_scored_leaves_the_result_in_its_folder(reader):
    reader.press_score()
    slicer.mrmlScene.RemoveNode(reader.volume)
    before = nodes()
    reader.wait(lambda: reader.dialogs.shown)
    text = the_dialog(reader)
    assert "deleted" in text
    assert nodes() == before
    (folder,) = reader.module.cases.iterdir()
    assert str(folder) in text
    reader.open_case(folder)
    assert reader.panel.reading.case.report.total.agatston > 100


@pytest.mark.parametrize("node", ["segmentation", "volume", "totals_table"])
def test_a_case_of_which_a_node_is_deleted_closes_and_keeps_its_edits(reading, node):
    reading.hold_row(0)
    reading.click(reading.ui.rcaButton)
    report, folder = reading.panel.reading.case.report, reading.panel.reading.folder
    slicer.mrmlScene.RemoveNode(getattr(reading.panel.nodes, node))
    reading.wait(lambda: reading.dialogs.shown)
    text = the_dialog(reading)
    assert str(folder) in text
    assert f"The {node.replace('_', ' ')} was deleted" in text
    assert reading.panel.reading is None
    assert not reading.ui.reviewSection.enabled
    reading.open_case(folder)
    assert reading.panel.reading.case.report == report


@pytest.mark.parametrize("moved", ["volume", "segmentation"])
def test_a_case_that_came_under_a_transform_is_not_edited_at_another_place(reading, moved):
    panel = reading.panel
    lesion = panel.reading.case.report.lesions[0].id
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node = getattr(panel.nodes, moved)
    node.SetAndObserveTransformNodeID(transform.GetID())
    reading.key("3")
    reading.click_in_view("Red", lesion)
    assert "Harden transform" in the_dialog(reading)
    assert panel.reading.case.edits == ()
    panel.commitStrokes()
    reading.wait(lambda: reading.dialogs.shown)
    assert "Harden transform" in the_dialog(reading)
    node.SetAndObserveTransformNodeID(None)
    reading.click_in_view("Red", lesion)
    assert panel.reading.case.lesions.arteries[lesion] is Artery.LCX


def test_a_gpu_without_memory_is_told_where_the_result_is(reader, scored_case, tmp_path):
    """The worker goes on with the CPU and says so in the case, as test_inference shows; the panel passes it on."""
    from dataclasses import replace

    from heartlens.core.errors import WarningRecord

    case = load_case(scored_case / "case")
    text = "the GPU ran out of memory; the networks ran on the CPU; --device cpu does so from the start"
    save_case(replace(case, cautions=(*case.cautions, WarningRecord("device", text))), tmp_path / "case")
    reader.open_case(tmp_path / "case")
    assert "the GPU ran out of memory; the networks ran on the CPU" in reader.ui.cautionsLabel.text
    assert "--device" not in reader.ui.cautionsLabel.text
    assert not reader.ui.cautionsLabel.isHidden()
    reader.close_scene()
    assert reader.ui.cautionsLabel.text == ""


def test_voxels_in_two_arteries_are_refused_and_the_screen_goes_back(reading):
    panel = reading.panel
    report = panel.reading.case.report
    lesion = report.lesions[0]
    node, volume = panel.nodes.segmentation, panel.nodes.volume
    mask = (panel.reading.case.lesions.labels == lesion.id).astype(np.uint8)
    node.GetSegmentation().SeparateSegmentLabelmap("LM")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LM", volume)
    reading.wait(lambda: reading.dialogs.shown or panel.reading.case.edits)
    assert "in two (LM and LAD" in the_dialog(reading)
    assert panel.reading.case.report == report
    panel.commitStrokes()
    assert panel.reading.case.edits == ()
    assert not slicer.util.arrayFromSegmentBinaryLabelmap(node, "LM", volume).any()


def test_an_edit_that_cannot_be_kept_is_not_made(reading):
    journal = reading.panel.reading.folder / "edits.jsonl"
    journal.unlink()
    journal.mkdir()
    report = reading.panel.reading.case.report
    reading.hold_row(0)
    reading.click(reading.ui.rcaButton)
    assert "the edit was not made" in the_dialog(reading).lower()
    assert reading.panel.reading.case.report == report
    assert reading.shown_artery(report.lesions[0].id) == report.lesions[0].artery.name


def test_cases_that_cannot_be_kept_are_told_before_the_work(reader, tmp_path):
    (tmp_path / "file").write_text("")
    reader.ui.casesPathEdit.currentPath = str(tmp_path / "file" / "cases")
    reader.press_score()
    assert "another folder" in the_dialog(reader)
    assert reader.ui.scoreButton.text == "Score"


def test_a_worker_that_cannot_be_started_is_told(reader, monkeypatch):
    from HeartLensCACLib import ScoreRun

    monkeypatch.setattr(ScoreRun, "pythonProgram", lambda: "/nowhere/PythonSlicer")
    reader.press_score()
    reader.wait(lambda: reader.dialogs.shown)
    assert "could not be started" in the_dialog(reader)
    assert reader.ui.scoreButton.text == "Score"


def test_a_folder_that_is_no_case_changes_nothing(reading, tmp_path):
    shown = reading.shown()
    reading.open_case(tmp_path)
    assert "no HeartLens case" in the_dialog(reading)
    assert reading.shown() == shown


def test_a_case_whose_ct_has_changed_is_not_opened(reader, scored_case, phantom_ct, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(phantom_ct, moved)
    document = json.loads((scored_case / "case" / "case.json").read_text())
    document["source"] = [str(moved / os.path.basename(path)) for path in document["source"]]
    (scored_case / "case" / "case.json").write_text(json.dumps(document))
    first = sorted(moved.iterdir())[0]
    dataset = pydicom.dcmread(first)
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(first)
    reader.open_case(scored_case)
    assert "voxels are not those" in the_dialog(reader)
    assert reader.panel.reading is None


def test_calcium_without_an_artery_blocks_signing(reading):
    panel = reading.panel
    lesion = panel.reading.case.report.lesions[0].id
    panel.assign(lesion, Artery.UNASSIGNED)
    reading.type_into(reading.ui.observerEdit, "Reader^Rita")
    reading.type_into(reading.ui.organizationEdit, "Phantom Hospital")
    reading.click(reading.ui.confirmCheckBox)
    assert not reading.ui.signButton.enabled
    assert "1 lesion has no artery yet" in reading.ui.obstaclesLabel.text
    reading.hold_row_of(lesion)
    reading.key("2")
    reading.click(reading.ui.confirmCheckBox)
    assert reading.ui.signButton.enabled


def test_a_volume_that_changed_since_it_was_scored_cannot_be_signed(reading):
    panel = reading.panel
    voxels = slicer.util.arrayFromVolume(reading.volume)
    voxels[20, 90:94, 90:94] = 900
    slicer.util.arrayFromVolumeModified(reading.volume)
    reading.type_into(reading.ui.observerEdit, "Reader^Rita")
    reading.type_into(reading.ui.organizationEdit, "Phantom Hospital")
    reading.click(reading.ui.confirmCheckBox)
    reading.click(reading.ui.signButton)
    assert "score the volume again" in the_dialog(reading)
    assert panel.reading.signature is None
    assert not (panel.reading.folder / "signature.json").exists()
    assert not (panel.reading.folder.parent / "signed").exists()


def test_a_signed_case_whose_export_failed_is_exported_again(reading, monkeypatch):
    from heartlens.app import review_session as library
    from heartlens.core.errors import InputRefused

    def full(*_, **__):
        raise InputRefused("output", "cannot write there: no space left on device")

    reading.type_into(reading.ui.observerEdit, "Reader^Rita")
    reading.type_into(reading.ui.organizationEdit, "Phantom Hospital")
    reading.click(reading.ui.confirmCheckBox)
    with monkeypatch.context() as patched:
        patched.setattr(library, "write_outputs", full)
        reading.click(reading.ui.signButton)
    assert "no space left" in the_dialog(reading)
    assert reading.panel.reading.signature is not None
    reading.click(reading.ui.exportButton)
    signed = reading.panel.reading.folder.parent / "signed"
    assert pydicom.dcmread(signed / "report.dcm").VerificationFlag == "VERIFIED"


def test_zero_has_to_be_confirmed_in_its_own_words(reading):
    for row in reading.panel.reading.case.report.lesions:
        reading.panel.remove(row.id)
    assert reading.panel.reading.case.report.total.agatston == 0
    assert "there is no coronary calcium" in reading.ui.confirmCheckBox.text
    reading.type_into(reading.ui.observerEdit, "Reader^Rita")
    reading.type_into(reading.ui.organizationEdit, "Phantom Hospital")
    assert not reading.ui.signButton.enabled
    reading.click(reading.ui.confirmCheckBox)
    reading.click(reading.ui.signButton)
    signed = reading.panel.reading.folder.parent / "signed"
    assert not (signed / "segmentation.dcm").exists()
    assert pydicom.dcmread(signed / "report.dcm").VerificationFlag == "VERIFIED"


def test_a_reloaded_module_shows_the_same_case(reading):
    reading.hold_row(0)
    reading.click(reading.ui.rcaButton)
    shown = reading.shown()
    old = reading.module.widget
    old.cleanup()
    fresh = type(old)()
    fresh.setup()
    try:
        reading.ui = fresh.ui
        assert reading.shown() == shown
        assert fresh.panel.reading.case.edits
    finally:
        fresh.cleanup()
        fresh.uiWidget.setMRMLScene(None)
        old.panel = None


def test_a_saved_scene_comes_back_with_its_case(reading, tmp_path):
    reading.hold_row(0)
    reading.click(reading.ui.rcaButton)
    shown, segmentations = reading.shown(), slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    bundle = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(bundle)
    slicer.mrmlScene.Clear()
    assert reading.panel.reading is None
    assert slicer.mrmlScene.ReadFromMRB(bundle)
    assert reading.panel.reading is None, "nodes do not come and go within an event of the scene"
    reading.wait(lambda: reading.panel.reading is not None)
    assert reading.dialogs.shown == []
    assert reading.shown() == shown
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert len(volumes) == 1
    again = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    assert len(again) == len(segmentations), "the case that was saved has made room for the one from its folder"


def test_the_sample_phantom_is_registered_and_needs_no_download(module):
    from types import SimpleNamespace

    from desktop import slicer_app

    slicer.modules.sampleDataSources.clear()
    slicer_app.load_module().HeartLensCAC(SimpleNamespace(path="HeartLensCAC.py"))
    slicer.app.emit("startupCompleted()")
    (source,) = slicer.modules.sampleDataSources["HeartLens"]
    assert source.sampleName == "HeartLens phantom"
    assert source.uris == [""]
    assert os.path.isfile(source.thumbnailFileName)
    assert slicer_app.SampleDataLogic.categories == {"HeartLens": "HeartLens"}


def test_a_script_can_score_without_the_panel(module, phantom_ct, tmp_path):
    logic = module.widget.logic
    case = logic.score(sorted(phantom_ct.iterdir()), tmp_path / "out", bundle="none")
    assert json.loads((case / "report.json").read_text())["total"]["agatston"] > 100
    with pytest.raises(RuntimeError, match="cannot read"):
        logic.score(tmp_path / "nothing.nrrd", tmp_path / "out-2", bundle="none")
