"""Clicks and pictures in slice views whose events go through Slicer's own interactor style and displayable managers."""

from __future__ import annotations

import numpy as np
import pytest
from desktop.reader import Reader, slicer
from desktop.slicer_facts import default
from PySide6.QtWidgets import QApplication

from heartlens.core.lesions import Artery

pytestmark = pytest.mark.slow


def a_long_lesion(reading):
    return next(row for row in reading.panel.reading.case.report.lesions if row.slices[1] > row.slices[0])


def test_slicer_keeps_ctrl_and_the_left_button_from_who_comes_after_it(module):
    """Why the clicks are observed before Slicer: after it, the press never comes."""
    from HeartLensCACLib.Interaction import ViewClicks

    view, seen = module.views["Red"], []
    tag = view.interactor().AddObserver("LeftButtonPressEvent", lambda *_: seen.append("pressed"), 0.0)
    view.click(200, 200)
    assert seen == ["pressed"]
    view.click(200, 200, ctrl=True)
    assert seen == ["pressed"], "Slicer took it for blending layers"
    view.interactor().RemoveObserver(tag)
    others = (default("vtkMRMLViewInteractorStyle.priority"), default("qMRMLSegmentEditorWidget.priority"))
    assert max(map(float, others)) < ViewClicks.BEFORE_SLICER


def test_ctrl_click_reaches_the_panel_through_slicers_own_view(reading):
    lesion = a_long_lesion(reading)
    total = reading.panel.reading.case.report.total.agatston
    reading.key("4")
    reading.click_in_view("Red", lesion.id, ctrl=True)
    (edit,) = reading.panel.reading.case.edits
    moved = [row for row in reading.panel.reading.case.report.lesions if row.artery is Artery.RCA]
    assert 0 in {row.slices[1] - row.slices[0] for row in moved}
    assert reading.panel.reading.case.report.total.agatston == pytest.approx(total), edit


@pytest.mark.parametrize("ctrl", [True, False])
def test_ctrl_counts_when_the_button_goes_down_whichever_finger_is_lifted_first(reading, ctrl):
    lesion = a_long_lesion(reading)
    reading.key("4")
    reading.click_in_view("Red", lesion.id, ctrl=ctrl, ctrl_at_release=not ctrl)
    (edit,) = reading.panel.reading.case.edits
    assert edit.kind == ("paint" if ctrl else "reassign"), "a part of the lesion, or all of it"


def test_a_click_that_slicer_ends_is_not_ours_although_its_observer_came_later(reading):
    """Of equal observers VTK calls the one that was added first, and the views add theirs whenever they like."""
    interactor = reading.module.views["Red"].interactor()
    tag = interactor.AddObserver(
        "LeftButtonPressEvent", lambda caller, _event: caller.GetCommand(tag).SetAbortFlag(1), 0.0
    )
    reading.key("3")
    lesion = next(row for row in reading.panel.reading.case.report.lesions if row.artery is Artery.LAD)
    reading.click_in_view("Red", lesion.id)
    interactor.RemoveObserver(tag)
    assert reading.panel.reading.case.edits == ()
    reading.click_in_view("Red", lesion.id)
    assert len(reading.panel.reading.case.edits) == 1


def test_a_click_on_the_handle_of_a_markup_is_the_markups(reading):
    """It may lie on calcium: who drags or selects it does not rename a lesion."""
    case = reading.panel.reading.case
    lesion = next(row for row in case.report.lesions if row.artery is Artery.LAD)
    flat = case.lesions.voxels.flat[case.lesions.voxels.ids == lesion.id]
    x, y, z = case.ct.lps_mm(np.array(np.unravel_index(flat[len(flat) // 2], case.ct.shape), float))
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "point")
    points.CreateDefaultDisplayNodes()
    points.AddControlPoint(-x, -y, z)
    reading.key("3")
    reading.click_in_view("Red", lesion.id)
    assert reading.panel.reading.case.edits == ()
    slicer.mrmlScene.RemoveNode(points)
    reading.click_in_view("Red", lesion.id)
    assert len(reading.panel.reading.case.edits) == 1


def test_a_ctrl_click_does_not_begin_a_blending_that_crashes_slicer_when_the_case_has_gone(reading):
    """Slicer 5.12 keeps the segmentation that it blended, and reads it at the next press although it is gone."""
    folder = reading.panel.reading.folder
    for _ in range(2):
        reading.key("4")
        reading.click_in_view("Red", a_long_lesion(reading).id, ctrl=True)
        reading.key("Z")
        reading.close_scene()
        reading.open_case(folder)
    kinds = [edit.kind for edit in reading.panel.reading.case.edits]
    assert kinds.count("undo") == 2


def test_a_click_in_another_mouse_mode_of_slicer_is_not_ours(reading):
    mode = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    mode.SetCurrentInteractionMode(mode.AdjustWindowLevel)
    reading.key("3")
    reading.click_in_view("Red", a_long_lesion(reading).id)
    mode.SetCurrentInteractionMode(mode.ViewTransform)
    assert reading.panel.reading.case.edits == ()


def background_of(view):
    return view.logic.GetSliceCompositeNode().GetBackgroundVolumeID()


def test_a_run_that_ends_while_another_module_is_open_touches_no_view_and_takes_no_click(module, phantom_ct):
    reader = Reader(module, phantom_ct)
    other = slicer.util.addVolumeFromArray(np.zeros((4, 8, 8), np.int16), name="other")
    reader.press_score()
    module.widget.exit()
    slicer.util.setSliceViewerLayers(background=other)
    reader.wait(lambda: reader.panel.reading is not None, 120)
    assert not reader.panel.views.clicks.areInstalled
    assert background_of(module.views["Red"]) == other.GetID()
    lesion = next(row for row in reader.panel.reading.case.report.lesions if row.artery is Artery.LAD)
    reader.panel.parameters.artery = Artery.RCA
    reader.click_in_view("Red", lesion.id)
    assert reader.panel.reading.case.edits == ()

    module.widget.enter()
    assert background_of(module.views["Red"]) == reader.volume.GetID(), "shown when the reader comes"
    reader.click_in_view("Red", lesion.id)
    assert reader.panel.reading.case.lesions.arteries[lesion.id] is Artery.RCA
    slicer.util.setSliceViewerLayers(background=other)
    module.widget.exit()
    module.widget.enter()
    assert background_of(module.views["Red"]) == other.GetID(), "and once: then the views are the reader's"


def test_a_scene_loaded_while_another_module_is_open_takes_no_click(reading, tmp_path):
    bundle = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(bundle)
    slicer.mrmlScene.Clear()
    reading.module.widget.exit()
    assert slicer.mrmlScene.ReadFromMRB(bundle)
    reading.wait(lambda: reading.panel.reading is not None)
    assert not reading.panel.views.clicks.areInstalled


def window_of(volume):
    display = volume.GetDisplayNode()
    return display.GetWindow(), display.GetLevel(), bool(display.GetAutoWindowLevel())


def test_a_chosen_ct_is_shown_in_the_window_in_which_calcium_is_read(module, phantom_ct):
    volume = module.load(phantom_ct)
    assert window_of(volume)[2], "Slicer gives it a window of its own"
    module.ui.volumeSelector.setCurrentNode(volume)
    assert window_of(volume) == (800, 180, False)


def test_the_sample_is_shown_in_that_window_before_it_is_chosen(module, tmp_path):
    from HeartLensCACLib import SampleCT

    assert window_of(SampleCT.load(tmp_path / "phantom", seed=7, matrix=64)) == (800, 180, False)


def test_a_window_that_somebody_chose_stays(module, phantom_ct):
    volume = module.load(phantom_ct)
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevel(1500, -600)
    module.ui.volumeSelector.setCurrentNode(volume)
    assert window_of(volume) == (1500, -600, False)


def test_a_case_without_its_volume_is_shown_in_the_same_window(module, scored_case):
    module.panel.openCaseFolder(scored_case)
    assert window_of(module.panel.nodes.volume) == (800, 180, False)
    QApplication.processEvents()


def test_a_case_opened_in_an_empty_scene_says_how_it_was_acquired_and_can_be_scored_again(module, scored_case):
    module.panel.openCaseFolder(scored_case)
    facts = module.ui.factsLabel.text
    assert "120 kVp" in facts
    assert "3 mm thick" in facts
    assert "unknown" not in facts
    assert module.ui.scoreButton.enabled
    assert module.ui.scoreButton.toolTip == "Find and score coronary calcium"


def test_a_volume_that_was_deleted_does_not_live_on_in_the_panel(module, scored_case):
    """A CT is hundreds of MB; what is known of it is kept by its name in the scene."""
    module.panel.openCaseFolder(scored_case)
    freed = []
    volume = module.panel.nodes.volume
    volume.AddObserver("DeleteEvent", lambda *_: freed.append(True))
    slicer.mrmlScene.RemoveNode(volume)
    del volume
    module.wait(lambda: not module.panel.later.isWaiting)
    assert freed == [True]


def test_a_case_takes_the_volume_on_the_screen_also_where_the_reader_lifted_a_refusal(module):
    """Voxels without air: whoever scored them said so, and its case is shown on the same node."""
    from dataclasses import replace
    from types import SimpleNamespace

    from heartlens.core.errors import OVERRIDABLE
    from heartlens.scene import case_ct
    from HeartLensCACLib.Scan import volumeOf

    volume = slicer.util.addVolumeFromArray(np.full((4, 8, 8), 40, np.int16), name="no air")
    volume.SetAttribute("DICOM.instanceUIDs", "2.25.1 2.25.2 2.25.3 2.25.4")
    ct, cautions = case_ct(volume, allow=OVERRIDABLE)
    assert "no-hu" in {caution.code for caution in cautions}
    uids = tuple(volume.GetAttribute("DICOM.instanceUIDs").split())
    shown = replace(ct, header=replace(ct.header, sop_instance_uids=uids))
    assert volumeOf(SimpleNamespace(case=SimpleNamespace(source_ct=shown))) is volume


def offered(module):
    selector = module.ui.volumeSelector
    return [selector.itemText(n) for n in range(selector.count)]


def test_the_selector_of_cts_offers_no_label_map_and_nothing_that_heartlens_made(module, phantom_ct, scored_case):
    from dataclasses import replace

    from heartlens.case.folder import load_case, save_case

    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    volume = module.load(phantom_ct)
    case = load_case(scored_case / "case")
    inputs = replace(case.inputs, slice_probability=np.full(case.ct.shape[0], 0.5))
    save_case(replace(case, inputs=inputs), scored_case.parent / "with")
    module.panel.openCaseFolder(scored_case.parent / "with")
    assert module.panel.nodes.overlay is not None
    assert offered(module) == ["None", volume.GetName()]
    overlay = module.panel.nodes.overlay.GetID()
    module.panel.closeCase()
    assert slicer.mrmlScene.GetNodeByID(overlay) is None
    other = slicer.util.addVolumeFromArray(np.zeros((4, 8, 8), np.int16), name="other")
    assert offered(module) == ["None", volume.GetName(), other.GetName()]
    slicer.mrmlScene.RemoveNode(labels)


def test_the_artery_chosen_in_slicers_own_table_of_segments_is_the_panels(reading):
    reading.key("3")
    assert reading.ui.lcxButton.checked
    reading.ui.segmentEditor.setCurrentSegmentID("RCA")
    assert reading.ui.rcaButton.checked
    assert not reading.ui.lcxButton.checked
    lesion = next(row for row in reading.panel.reading.case.report.lesions if row.artery is Artery.LAD)
    reading.click_in_view("Red", lesion.id)
    assert reading.panel.reading.case.lesions.arteries[lesion.id] is Artery.RCA


def test_a_segment_that_slicer_chooses_by_itself_is_not_the_readers_choice(reading):
    """The editor selects the first segment whenever it is given a segmentation."""
    assert reading.panel.parameters.artery is Artery.LAD, "as before the case was opened"
    reading.key("3")
    reading.module.widget.exit()
    reading.module.widget.enter()
    assert reading.panel.parameters.artery is Artery.LCX
    assert reading.ui.segmentEditor.currentSegmentID() == "LCX"


def test_the_eraser_takes_calcium_of_whichever_artery(reading):
    report = reading.panel.reading.case.report
    lesion = next(row for row in report.lesions if row.artery is Artery.LAD)
    reading.erase_lesion(lesion.id, segment="LM")
    assert lesion.id not in reading.panel.reading.case.lesions.arteries
    assert reading.panel.reading.case.report.total.agatston == pytest.approx(report.total.agatston - lesion.agatston)


def test_the_hint_says_what_the_effect_at_work_takes(reading):
    reading.key("3")
    reading.ui.segmentEditor.setActiveEffectByName("Erase")
    assert reading.ui.hintLabel.text.startswith("Erase takes away calcium of every artery.")
    reading.ui.segmentEditor.setActiveEffectByName("Scissors")
    assert reading.ui.hintLabel.text.startswith("Scissors cuts LCX alone")
    reading.ui.segmentEditor.setActiveEffectByName("")
    assert reading.ui.hintLabel.text.startswith("Click calcium in a slice to assign it to LCX")


def test_while_a_brush_is_in_hand_a_key_chooses_its_artery_and_moves_no_held_lesion(reading):
    reading.hold_row(0)
    reading.ui.segmentEditor.setActiveEffectByName("Paint")
    reading.point_at("Red", reading.lesions_shown()[0])
    reading.key("4")
    reading.click(reading.ui.lmButton)
    reading.key("3")
    reading.key("Del")
    assert reading.panel.reading.case.edits == ()
    assert reading.panel.parameters.artery is Artery.LCX
    assert reading.ui.segmentEditor.currentSegmentID() == "LCX"


def test_escape_puts_the_brush_down_then_lets_go_of_the_lesion_then_of_the_row(reading):
    reading.hold_row(0)
    reading.ui.segmentEditor.setActiveEffectByName("Paint")
    reading.key("Esc")
    assert reading.panel.review.brush.effect == ""
    assert reading.panel.review.heldLesion is not None
    reading.key("Esc")
    assert reading.panel.review.heldLesion is None
    assert reading.panel.review.selectedLesion() is not None
    reading.key("Esc")
    assert reading.panel.review.selectedLesion() is None
    for view in reading.module.views.values():
        view.leave()
    reading.key("4")
    assert reading.panel.reading.case.edits == ()
