"""Paint, Erase and Scissors moved by mouse events in slice views: what a stroke gives, and what keeps it out."""

from __future__ import annotations

import numpy as np
import pytest
from desktop.brushes import EffectViews, PaintEffect
from desktop.reader import slicer
from desktop.test_journey import scored_plainly
from PySide6.QtWidgets import QApplication

from heartlens.core.lesions import CORONARY, Artery

pytestmark = pytest.mark.slow

SLAB = "HeartLensSlab"


@pytest.fixture
def reading(reading):
    """The view before another layout comes back afterwards."""
    reading.puts_brush_down = False
    layout = slicer.app.layoutManager()
    layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    reading.module.widget.enter()
    reading.module.views = slicer.app.slice_widgets
    yield reading
    layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)


def case_of(reading):
    return reading.panel.reading.case


def kinds(reading):
    return [edit.kind for edit in case_of(reading).edits]


def settle(reading):
    """Until no stroke waits for its timer."""
    reading.wait(lambda: not reading.panel._strokeTimer.active)
    QApplication.processEvents()


def assert_scored(reading):
    plain = scored_plainly(reading.panel)
    for artery in CORONARY:
        assert case_of(reading).report.arteries[artery].agatston == pytest.approx(plain[artery])


def held(reading, name, lesion):
    """The middle of a view after it went to a lesion, and a place beside it."""
    x, y = reading._at(name, lesion)
    return (x, y), (x + 12, y + 3)


def test_a_stroke_gives_calcium_to_the_artery_and_nothing_below_the_threshold(reading):
    before = case_of(reading)
    k, j, i = reading.free_calcium()
    reading.key("1")
    reading.stroke_over("Paint", "LM", [(k, j, i - 4), (k, j, i + 4)], diameter_mm=10.0)
    after = case_of(reading)
    painted = (after.scored_codes == Artery.LM) & (before.scored_codes != Artery.LM)
    assert painted.any()
    assert np.unique(np.nonzero(painted)[0]).tolist() == [k], "a disk, as thick as a slice"
    assert after.source_ct.hu[painted].min() >= 130
    assert kinds(reading) == ["paint"], "a stroke is no click"
    assert_scored(reading)
    reading.key("Z")
    assert case_of(reading).report == before.report


def test_the_same_stroke_erases_and_leaves_what_is_beside_it(reading):
    total = case_of(reading).report.total.agatston
    lesion = max(case_of(reading).report.lesions, key=lambda row: row.slices[1] - row.slices[0])
    strokes = reading.erase_lesion(lesion.id)
    assert strokes == lesion.slices[1] - lesion.slices[0] + 1 > 1
    assert lesion.id not in case_of(reading).lesions.arteries
    assert case_of(reading).report.total.agatston == pytest.approx(total - lesion.agatston)
    assert_scored(reading)
    for _ in range(strokes):
        reading.key("Z")
    assert case_of(reading).report.total.agatston == total


@pytest.mark.parametrize(("name", "orientation"), [("Green", "Coronal"), ("Yellow", "Sagittal")])
def test_in_another_view_a_stroke_goes_through_the_slices_that_it_crosses(reading, name, orientation):
    lesion = max(case_of(reading).report.lesions, key=lambda row: row.slices[1] - row.slices[0])
    first = case_of(reading).lesions.labels == lesion.id
    reading.module.views[name].node.SetOrientation(orientation)
    x, y = reading._at(name, lesion.id)
    reading.take_up("Erase", 4.0)
    reading.module.views[name].drag((x, y - 40), (x, y + 40))
    settle(reading)
    gone = first & (case_of(reading).lesions.labels == 0)
    assert len(np.unique(np.nonzero(gone)[0])) > 1
    assert_scored(reading)


def test_two_strokes_within_the_time_of_one_are_both_kept(reading):
    lads = [row for row in case_of(reading).report.lesions if row.artery is Artery.LAD][:2]
    reading.take_up("Erase", 30.0)
    for row in lads:
        reading.module.views["Red"].drag(*held(reading, "Red", row.id))
    settle(reading)
    for row in lads:
        assert row.slices[0] == row.slices[1] or row.agatston > sum(
            x.agatston for x in case_of(reading).report.lesions if x.id == row.id
        )
    assert_scored(reading)


def test_undo_while_the_button_is_down_takes_back_the_stroke_before_and_the_one_in_hand_is_kept(reading):
    reading.paint_free_calcium("LM")
    lesion = next(row for row in case_of(reading).report.lesions if row.artery is Artery.LAD)
    voxels = np.argwhere(case_of(reading).lesions.labels == lesion.id)
    reading.take_up("Erase", 3.0)
    red = reading.module.views["Red"]
    reading._go_to("Red", voxels[0])
    red.drag(*(reading._xy("Red", kji) for kji in voxels[:2]), release=False)
    reading.key("Z")
    assert case_of(reading).report.arteries[Artery.LM].agatston == 0
    red.let_go()
    settle(reading)
    assert case_of(reading).lesions.labels[tuple(voxels[0])] == 0
    assert case_of(reading).report.arteries[Artery.LM].agatston == 0
    assert_scored(reading)


def test_over_the_slab_a_stroke_is_kept_out_and_said_to_be(reading, monkeypatch):
    """Slicer would paint into the slice in the middle of the slab, which need not be where the calcium is."""
    said = []
    monkeypatch.setattr(slicer.util, "showStatusMessage", lambda text, _ms=0: said.append(text))
    reading.key("L")
    reading.module.views = slicer.app.slice_widgets
    lesion = case_of(reading).report.lesions[0].id
    reading.take_up("Erase", 30.0)
    reading.module.views[SLAB].drag(*held(reading, SLAB, lesion))
    settle(reading)
    assert kinds(reading) == []
    assert said == ["A slab has no depth: paint, erase and cut in a single slice."]
    reading.module.views["Red"].drag(*held(reading, "Red", lesion))
    settle(reading)
    assert kinds(reading) != []
    assert_scored(reading)


def test_the_brush_goes_on_in_the_views_of_another_layout(reading):
    reading.take_up("Erase", 30.0)
    reading.key("L")
    reading.module.views = slicer.app.slice_widgets
    reading.module.views["Red"].drag(*held(reading, "Red", case_of(reading).report.lesions[0].id))
    settle(reading)
    assert kinds(reading) != []


def test_with_the_colors_hidden_a_stroke_opens_no_box_and_is_taken(reading):
    """Slicer asks at each stroke into a hidden node whether it is to be shown."""
    reading.key("T")
    display = reading.panel.nodes.segmentation.GetDisplayNode()
    assert not display.GetVisibility2DFill()
    reading.paint_free_calcium("LM")
    assert reading.dialogs.shown == []
    assert kinds(reading) == ["paint"]


def test_ctrl_with_a_brush_in_hand_begins_no_blending_which_crashes_slicer_when_the_case_has_gone(reading):
    """The effect takes no press with Ctrl, so it would be Slicer's."""
    interactor, pressed = reading.module.views["Red"].interactor(), []
    tag = interactor.AddObserver("LeftButtonPressEvent", lambda *_: pressed.append(True), 0.5)  # just before Slicer
    reading.take_up("Paint", 3.0)
    reading.click_in_view("Red", case_of(reading).report.lesions[0].id, ctrl=True)
    interactor.RemoveObserver(tag)
    settle(reading)
    assert pressed == []
    assert kinds(reading) == []


def test_a_segmentation_deleted_in_mid_stroke_closes_the_case_and_loses_nothing(reading):
    reading.paint_free_calcium("LM")
    folder = reading.panel.reading.folder
    reading.take_up("Erase", 30.0)
    red = reading.module.views["Red"]
    red.drag(*held(reading, "Red", case_of(reading).report.lesions[0].id), release=False)
    slicer.mrmlScene.RemoveNode(reading.panel.nodes.segmentation)
    red.let_go()
    reading.wait(lambda: not reading.panel.later.isWaiting)
    assert reading.panel.reading is None
    (told,) = reading.dialogs.shown
    assert told.startswith("The segmentation was deleted, so the case was closed. Nothing is lost")
    reading.dialogs.shown.clear()
    reading.open_case(folder)
    assert kinds(reading) == ["paint"]


def test_a_scene_closed_in_mid_stroke_takes_the_stroke_with_it_and_no_edit(reading):
    folder = reading.panel.reading.folder
    reading.take_up("Erase", 30.0)
    red = reading.module.views["Red"]
    red.drag(*held(reading, "Red", case_of(reading).report.lesions[0].id), release=False)
    reading.close_scene()
    red.let_go()
    reading.wait(lambda: not reading.panel.later.isWaiting)
    reading.open_case(folder)
    assert kinds(reading) == []
    assert reading.dialogs.shown == []


def test_whoever_left_the_module_paints_nothing(reading):
    reading.take_up("Erase", 30.0)
    reading.module.widget.exit()
    reading.module.views["Red"].drag(*held(reading, "Red", case_of(reading).report.lesions[0].id))
    settle(reading)
    assert kinds(reading) == []


def test_a_brush_of_the_size_that_slicer_chooses_scores_as_an_independent_scorer_does(reading):
    """Three percent of the screen, which is 16 mm here: it takes whatever calcium lies in it."""
    lesion = case_of(reading).report.lesions[0]
    reading.ui.segmentEditor.setActiveEffectByName("Paint")
    reading.key("4")
    reading.module.views["Red"].drag(*held(reading, "Red", lesion.id))
    settle(reading)
    assert kinds(reading) != []
    assert case_of(reading).report.arteries[Artery.RCA].agatston > 0
    assert_scored(reading)


def test_what_slicers_own_segment_editor_paints_into_the_same_segmentation_is_an_edit_like_any_other(reading):
    """It has no mask and another node, and the reader is in that module."""
    nodes = reading.panel.nodes
    lesion = next(row for row in case_of(reading).report.lesions if row.artery is Artery.LAD)
    reading.module.widget.exit()
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    other.SetAndObserveSegmentationNode(nodes.segmentation)
    other.SetAndObserveSourceVolumeNode(nodes.volume)
    other.SetSelectedSegmentID("RCA")
    editor = EffectViews()
    editor.effect = PaintEffect("Paint", other)
    editor.observe()
    reading.module.views["Red"].drag(*held(reading, "Red", lesion.id))
    settle(reading)
    editor.leave()
    assert case_of(reading).report.arteries[Artery.RCA].agatston > 0
    assert case_of(reading).source_ct.hu[case_of(reading).scored_codes == Artery.RCA].min() >= 130
    assert_scored(reading)
    reading.module.widget.enter()
    count = len(kinds(reading))
    reading.take_up("Erase", 30.0)
    reading.module.views["Red"].drag(*held(reading, "Red", lesion.id))
    settle(reading)
    assert len(kinds(reading)) > count
    assert_scored(reading)


def cut_around(reading, lesion, segment, *, by=4, name="Red", **parameters):
    """A line around what a view shows of a lesion, by so many pixels, with the segment chosen in the editor's table."""
    editor = reading.ui.segmentEditor
    editor.setActiveEffectByName("Scissors")
    for parameter, value in parameters.items():
        editor.activeEffect().setParameter(parameter, value)
    editor.setCurrentSegmentID(segment)
    reading._at(name, lesion)
    voxels = np.argwhere(case_of(reading).lesions.labels == lesion)
    x, y = np.array([reading._xy(name, kji) for kji in voxels]).T
    corners = [(x.min() - by, y.min() - by), (x.max() + by, y.min() - by), (x.max() + by, y.max() + by)]
    corners.append((x.min() - by, y.max() + by))
    reading.module.views[name].drag(*(tuple(map(int, corner)) for corner in corners))
    settle(reading)


def tallest(reading, artery=None):
    rows = [row for row in case_of(reading).report.lesions if artery in (None, row.artery)]
    return max(rows, key=lambda row: row.slices[1] - row.slices[0])


def test_scissors_cut_a_lesion_out_of_all_its_slices_as_an_independent_scorer_finds(reading):
    before, lesion = case_of(reading).report, tallest(reading)
    assert lesion.slices[1] > lesion.slices[0]
    cut_around(reading, lesion.id, lesion.artery.name)
    assert lesion.id not in case_of(reading).lesions.arteries
    assert case_of(reading).report.total.agatston < before.total.agatston
    assert_scored(reading)
    reading.key("Z")
    assert case_of(reading).report == before


def test_in_a_single_slice_scissors_leave_the_part_in_the_others(reading):
    lesion = tallest(reading)
    first = case_of(reading).lesions.labels == lesion.id
    cut_around(reading, lesion.id, lesion.artery.name, SliceCutMode="Symmetric")
    gone = first & (case_of(reading).scored_codes == 0)
    assert len(np.unique(np.nonzero(first)[0])) > 1
    assert len(np.unique(np.nonzero(gone)[0])) == 1
    assert_scored(reading)


def test_scissors_leave_the_calcium_of_another_artery_within_the_line(reading):
    """Around everything, with LAD chosen: what is called LAD goes, in one action, and nothing else."""
    before = case_of(reading).report
    others = [artery for artery in CORONARY if artery is not Artery.LAD]
    assert before.arteries[Artery.LAD].agatston > 0
    assert any(before.arteries[artery].agatston > 0 for artery in others)
    cut_around(reading, tallest(reading, Artery.LAD).id, "LAD", by=2000)
    after = case_of(reading).report
    assert after.arteries[Artery.LAD].agatston == 0
    assert [after.arteries[artery] for artery in others] == [before.arteries[artery] for artery in others]
    assert_scored(reading)
    reading.key("Z")
    assert case_of(reading).report == before


def test_a_cut_through_a_lesion_leaves_its_other_half(reading):
    lesion = tallest(reading)
    first = case_of(reading).lesions.labels == lesion.id
    x, y = reading._at("Red", lesion.id)
    reading.ui.segmentEditor.setActiveEffectByName("Scissors")
    reading.ui.segmentEditor.setCurrentSegmentID(lesion.artery.name)
    reading.module.views["Red"].drag((x, y - 60), (x + 60, y - 60), (x + 60, y + 60), (x, y + 60))
    settle(reading)
    left = first & (case_of(reading).scored_codes == lesion.artery)
    assert 0 < left.sum() < first.sum()
    assert_scored(reading)


def test_scissors_are_kept_out_of_the_slab(reading):
    reading.key("L")
    reading.module.views = slicer.app.slice_widgets
    lesion = tallest(reading)
    cut_around(reading, lesion.id, lesion.artery.name, name=SLAB)
    assert kinds(reading) == []
    cut_around(reading, lesion.id, lesion.artery.name, name="Red")
    assert kinds(reading) != []
    assert_scored(reading)
