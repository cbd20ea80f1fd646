"""Reading in the views: the layout by Slicer's own layout logic, its slab and windows, the markers, and boxes."""

from __future__ import annotations

import numpy as np
import pytest
import vtk
from desktop.reader import Reader, slicer
from PySide6.QtWidgets import QApplication

from heartlens.core.lesions import ARTERY_COLORS, Artery

pytestmark = pytest.mark.slow

SLAB = "HeartLensSlab"


@pytest.fixture
def reading(module, phantom_ct, scored_case):
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    module.widget.enter()
    reader = Reader(module, phantom_ct)
    reader.open_case(scored_case)
    yield reader
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)


def case_of(reading):
    return reading.panel.reading.case


def layout_shown():
    return slicer.app.layoutManager().layoutLogic().GetLayoutNode().GetViewArrangement()


def view(name):
    return slicer.app.layoutManager().sliceWidget(name)


# The layout


def test_the_layout_has_an_axial_view_a_slab_and_calcium_in_3d_and_goes_back_to_what_was_there(reading):
    before = layout_shown()
    reading.click(reading.ui.readingRoomButton)
    assert slicer.app.layoutManager().sliceViewNames() == ("Red", SLAB)
    nodes = slicer.app.layoutManager().layoutLogic().GetViewNodes()
    kinds = [nodes.GetItemAsObject(n).GetClassName() for n in range(nodes.GetNumberOfItems())]
    assert sorted(kinds) == ["vtkMRMLSliceNode", "vtkMRMLSliceNode", "vtkMRMLViewNode"]
    slab = view(SLAB).mrmlSliceNode()
    assert slab.GetSlabReconstructionEnabled()
    assert (slab.GetSlabReconstructionThickness(), slab.GetSlabReconstructionType()) == (10.0, vtk.VTK_IMAGE_SLAB_MAX)
    for name in ("Red", SLAB):
        composite = view(name).mrmlSliceCompositeNode()
        assert composite.GetLinkedControl()
        assert composite.GetBackgroundVolumeID() == reading.volume.GetID()
    assert reading.ui.readingRoomButton.checked
    reading.key("L")
    assert layout_shown() == before
    assert not reading.ui.readingRoomButton.checked


def test_the_views_are_zoomed_to_the_calcium_and_centered_on_it(reading):
    reading.key("L")
    places = np.array(
        [row.centroid_lps_mm for row in case_of(reading).report.lesions if row.artery is not Artery.OTHER]
    )
    x, y, z = (places.min(axis=0) + places.max(axis=0)) / 2
    width = max(150.0, *(np.ptp(places, axis=0)[:2] + 50))
    for name in ("Red", SLAB):
        node = view(name).mrmlSliceNode()
        matrix = node.GetSliceToRAS()
        assert [matrix.GetElement(axis, 3) for axis in range(3)] == pytest.approx([-x, -y, z])
        assert min(node.GetFieldOfView()[:2]) == pytest.approx(width)


def test_the_view_in_3d_looks_at_the_calcium_from_the_front(reading):
    camera = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode")
    camera.SetLayoutName("1")
    reading.key("L")
    matrix = view("Red").mrmlSliceNode().GetSliceToRAS()
    center = [matrix.GetElement(axis, 3) for axis in range(3)]
    assert camera.GetFocalPoint() == pytest.approx(center)
    r, a, s = np.subtract(camera.GetPosition(), center)
    assert (r, s) == pytest.approx((0, 0))
    width = min(view("Red").mrmlSliceNode().GetFieldOfView()[:2])
    assert 2 * a * np.tan(np.radians(camera.GetViewAngle() / 2)) == pytest.approx(width)


def test_next_moves_the_axial_view_and_the_slab(reading):
    reading.key("L")
    reading.key("N")
    x, y, z = case_of(reading).report.lesions[0].centroid_lps_mm
    for name in ("Red", SLAB):
        matrix = view(name).mrmlSliceNode().GetSliceToRAS()
        assert [matrix.GetElement(axis, 3) for axis in range(3)] == pytest.approx([-x, -y, z])


def test_a_click_and_a_key_over_the_slab_change_nothing_because_a_projection_has_no_depth(reading):
    reading.key("L")
    reading.key("4")
    reading.module.views = slicer.app.slice_widgets
    lesion = case_of(reading).report.lesions[0].id
    reading.click_in_view(SLAB, lesion)
    reading.point_at(SLAB, lesion)
    reading.key("3")
    assert case_of(reading).edits == ()
    reading.module.views[SLAB].leave()
    reading.click_in_view("Red", lesion)
    assert len(case_of(reading).edits) == 1


def test_calcium_in_3d_follows_the_edits(reading):
    reading.key("L")
    segmentation = reading.panel.nodes.segmentation
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()

    def points_of(artery):
        surface = segmentation.GetSegmentation().GetSegment(artery).GetRepresentation(name)
        return 0 if surface is None else surface.GetNumberOfPoints()

    reading.wait(lambda: points_of("LAD") > 0)
    assert points_of("LM") == 0
    lad = [row.id for row in case_of(reading).report.lesions if row.artery is Artery.LAD]
    reading.hold_row(reading.row_of(lad[0]))
    reading.key("1")
    reading.wait(lambda: points_of("LM") > 0)
    assert segmentation.GetDisplayNode().GetVisibility3D()


def test_calcium_that_comes_into_3d_is_no_stroke(reading):
    strokes = []
    reading.panel._strokeTimer.connect("timeout()", lambda: strokes.append(True))
    reading.key("L")
    display = reading.panel.nodes.segmentation.GetDisplayNode()
    reading.wait(display.GetVisibility3D)
    assert not reading.panel._strokeTimer.active
    assert strokes == []


def test_calcium_in_3d_is_what_slicer_would_make_of_the_segmentation(reading):
    reading.key("L")
    inside = reading.panel.nodes.segmentation.GetSegmentation()
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()

    def shapes():
        found = {}
        for artery in ("LAD", "LCX", "RCA"):
            surface = inside.GetSegment(artery).GetRepresentation(name)
            mass = vtk.vtkMassProperties()
            mass.SetInputData(surface)
            found[artery] = (surface.GetBounds(), mass.GetVolume())
        return found

    reading.wait(lambda: inside.GetSegment("LAD").GetRepresentation(name) is not None)
    ours = shapes()
    node = reading.panel.nodes.segmentation
    node.RemoveClosedSurfaceRepresentation()
    node.CreateClosedSurfaceRepresentation()
    slicers = shapes()
    for artery, (bounds, mm3) in ours.items():
        assert bounds == pytest.approx(slicers[artery][0], abs=0.5), artery
        assert mm3 == pytest.approx(slicers[artery][1], rel=0.1), artery


def test_without_a_case_there_is_no_layout_to_go_to(module):
    before = layout_shown()
    module.panel.views.toggleRoom()
    assert layout_shown() == before


@pytest.mark.parametrize(("key", "low", "high"), [("W", -220.0, 580.0), ("E", -300.0, 1200.0)])
def test_a_key_gives_the_ct_a_window(reading, key, low, high):
    display = reading.volume.GetDisplayNode()
    display.SetWindowLevelMinMax(0.0, 1.0)
    reading.key(key)
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (low, high)


# Markers


def markers():
    """Label and place of every marker, by the color that it is drawn in."""
    found = {}
    nodes = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    for node in nodes:
        color = node.GetDisplayNode().GetSelectedColor()
        for n in range(node.GetNumberOfControlPoints()):
            found[node.GetNthControlPointLabel(n)] = (color, node.GetNthControlPointPosition(n))
    return found


def test_each_lesion_has_its_number_and_artery_on_its_brightest_voxel_in_the_color_of_the_artery(reading):
    case = case_of(reading)
    shown = markers()
    assert shown.keys() == {f"{row.id} {row.artery.name}" for row in case.report.lesions}
    for row in case.report.lesions:
        color, (r, a, s) = shown[f"{row.id} {row.artery.name}"]
        assert "#" + "".join(f"{round(255 * part):02x}" for part in color) == ARTERY_COLORS[row.artery].lower()
        kji = np.rint(case.ct.index_kji(np.array([-r, -a, s]))).astype(int)
        assert case.lesions.labels[tuple(kji)] == row.id
        assert case.ct.hu[tuple(kji)] == row.peak_hu


def test_markers_follow_the_edits_and_go_with_the_case(reading):
    lesion = reading.lesions_shown()[0]
    reading.hold_row(0)
    reading.key("4")
    assert f"{lesion} RCA" in markers()
    reading.key("Z")
    assert f"{lesion} RCA" not in markers()
    reading.panel.closeCase()
    assert markers() == {}
    assert slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialDisplayNode") == []


def test_a_click_on_a_marker_is_a_click_on_the_calcium(reading):
    row = next(row for row in case_of(reading).report.lesions if row.artery is Artery.LAD)
    _, (r, a, s) = markers()[f"{row.id} LAD"]
    red = reading.module.views["Red"]
    red.node.JumpSliceByCentering(r, a, s)
    reading.key("3")
    red.click(200, 200)
    QApplication.processEvents()
    assert case_of(reading).lesions.arteries[row.id] is Artery.LCX


def test_markers_can_be_hidden_and_are_not_saved_with_the_scene(reading, tmp_path):
    nodes = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
    reading.key("M")
    assert not any(node.GetDisplayNode().GetVisibility() for node in nodes)
    reading.key("M")
    assert all(node.GetDisplayNode().GetVisibility() for node in nodes)
    bundle = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(bundle)
    slicer.mrmlScene.Clear()
    reading.module.widget.exit()
    assert slicer.mrmlScene.ReadFromMRB(bundle)
    reading.wait(lambda: reading.panel.reading is not None)
    assert len(markers()) == len(case_of(reading).report.lesions), "made anew, and not twice"


# Heart and aorta


def found(reading):
    """Heart and aorta have been looked for."""
    reading.wait(lambda: not reading.panel.views.room._surroundings.isLooking)


def surroundings():
    """Model nodes of heart and aorta, by name."""
    nodes = slicer.util.getNodesByClass("vtkMRMLModelNode")
    return {node.GetName(): node for node in nodes if node.GetName() in ("HeartLens heart", "HeartLens aorta")}


def test_heart_and_aorta_lie_around_the_calcium_and_let_it_be_seen(reading):
    from heartlens.anatomy.region import heart_region

    assert surroundings() == {}
    reading.key("L")
    found(reading)
    shown = surroundings()
    assert shown.keys() == {"HeartLens heart", "HeartLens aorta"}
    heart = shown["HeartLens heart"]
    edges = vtk.vtkFeatureEdges()
    edges.SetInputData(heart.GetPolyData())
    edges.FeatureEdgesOff()
    edges.NonManifoldEdgesOff()
    edges.BoundaryEdgesOn()
    edges.Update()
    assert edges.GetOutput().GetNumberOfCells() == 0, "closed"
    mass = vtk.vtkMassProperties()
    mass.SetInputData(heart.GetPolyData())
    region = heart_region(case_of(reading).ct)
    aorta = mass_of(shown["HeartLens aorta"])
    blocks_ml = region.heart.sum() * np.prod(region.grid.spacing_mm) / 1000
    assert 0.4 * blocks_ml < mass.GetVolume() / 1000 < blocks_ml  # without the aortic root
    assert 10 < aorta < 400
    low_x, high_x, low_y, high_y, low_z, high_z = heart.GetPolyData().GetBounds()
    inside = 0
    counted = [row for row in case_of(reading).report.lesions if row.artery is not Artery.OTHER]
    for row in counted:
        x, y, z = row.centroid_lps_mm
        inside += low_x - 15 < -x < high_x + 15 and low_y - 15 < -y < high_y + 15 and low_z - 15 < z < high_z + 15
    assert inside == len(counted) > 0
    for node in shown.values():
        display = node.GetDisplayNode()
        assert node.GetPolyData().GetPointData().GetScalars() is None, "the display's color is shown"
        assert display.GetOpacity() < 0.5
        assert not display.GetVisibility2D()
        assert (node.GetHideFromEditors(), node.GetSaveWithScene()) == (1, 0)
    assert reading.panel.nodes.segmentation.GetDisplayNode().GetOpacity3D() == 1.0


def mass_of(node):
    """Volume of a closed surface, ml."""
    mass = vtk.vtkMassProperties()
    mass.SetInputData(node.GetPolyData())
    return mass.GetVolume() / 1000


def test_heart_and_aorta_go_with_the_layout_and_with_the_case(reading, scored_case):
    reading.key("L")
    found(reading)
    assert len(surroundings()) == 2
    reading.key("L")
    assert surroundings() == {}
    reading.key("L")
    found(reading)
    first = surroundings()
    reading.hold_row(0)
    reading.key("4")  # an edit moves no heart
    assert surroundings() == first
    reading.open_case(scored_case)
    found(reading)
    assert len(surroundings()) == 2
    reading.panel.closeCase()
    assert surroundings() == {}


def test_a_heart_that_is_still_looked_for_when_layout_or_case_go_does_not_come(reading):
    room = reading.panel.views.room
    for leave in (lambda: reading.key("L"), reading.panel.closeCase):
        reading.panel.views.toggleRoom()
        assert room._surroundings.isLooking
        looking = room._surroundings._aside._work
        leave()
        reading.wait(lambda looking=looking: looking.isDone)
        QApplication.processEvents()
        assert surroundings() == {}


# A box


def drag_box(reading, name, center, half):
    x, y = center
    reading.module.views[name].click(x - half, y - half, drag_to=(x + half, y + half))
    QApplication.processEvents()


def test_every_island_in_a_box_goes_to_the_artery_whole_in_one_action(reading):
    case = case_of(reading)
    lesion = next(row for row in case.report.lesions if row.artery is Artery.LAD and row.slices[1] > row.slices[0])
    total = case.report.total.agatston
    reading.key("4")
    center = reading._at("Red", lesion.id)
    reading.key("B")
    assert reading.ui.boxButton.checked
    drag_box(reading, "Red", center, 6)
    assert not reading.ui.boxButton.checked, "one box"
    after = case_of(reading)
    assert after.lesions.arteries[lesion.id] is Artery.RCA
    assert after.report.total.agatston == pytest.approx(total)
    reading.key("Z")
    assert case_of(reading).report == case.report


@pytest.mark.parametrize("name", ["Green", "Yellow"])
def test_a_box_in_another_view_means_the_same_islands(reading, name):
    lesion = next(row for row in case_of(reading).report.lesions if row.artery is Artery.LAD)
    reading.module.views[name].node.SetOrientation({"Green": "Coronal", "Yellow": "Sagittal"}[name])
    reading.key("4")
    center = reading._at(name, lesion.id)
    reading.key("B")
    drag_box(reading, name, center, 6)
    assert case_of(reading).lesions.arteries[lesion.id] is Artery.RCA


def test_a_box_around_no_calcium_and_one_that_was_given_up_change_nothing(reading):
    lesion = case_of(reading).report.lesions[0].id
    center = reading._at("Red", lesion)
    reading.key("4")
    reading.key("B")
    reading.key("Esc")
    assert not reading.ui.boxButton.checked
    drag_box(reading, "Red", center, 6)
    reading.key("B")
    drag_box(reading, "Red", (20, 20), 4)
    assert case_of(reading).edits == ()
    assert reading.dialogs.shown == []


def test_in_an_oblique_view_a_box_is_refused(reading):
    lesion = case_of(reading).report.lesions[0].id
    center = reading._at("Red", lesion)
    transform = vtk.vtkTransform()
    transform.SetMatrix(reading.module.views["Red"].node.GetSliceToRAS())
    transform.RotateX(30)
    transform.RotateY(20)
    reading.module.views["Red"].node.GetSliceToRAS().DeepCopy(transform.GetMatrix())
    reading.module.views["Red"].node.UpdateMatrices()
    reading.key("4")
    reading.key("B")
    drag_box(reading, "Red", center, 30)
    assert case_of(reading).edits == ()


def test_while_a_brush_is_in_hand_no_box_takes_the_mouse(reading):
    reading.ui.segmentEditor.setActiveEffectByName("Paint")
    reading.key("B")
    assert not reading.panel.views.box.isArmed
    assert not reading.ui.boxButton.checked


def test_an_armed_box_is_given_up_with_the_module(reading):
    reading.key("B")
    assert reading.panel.views.box.isArmed
    reading.module.widget.exit()
    assert not reading.panel.views.box.isArmed


def test_a_box_in_the_slab_is_none_because_a_projection_has_no_depth(reading):
    reading.key("L")
    reading.key("3")
    reading.module.views = slicer.app.slice_widgets
    reading.key("B")
    lesion = case_of(reading).report.lesions[0].id
    drag_box(reading, SLAB, reading._at(SLAB, lesion), 12)
    assert case_of(reading).edits == ()


def test_a_brush_that_is_taken_after_the_box_was_armed_has_its_first_stroke(reading):
    before = case_of(reading).report.total.agatston
    reading.key("B")
    assert reading.panel.views.box.isArmed
    reading.ui.segmentEditor.setActiveEffectByName("Erase")
    lesion = case_of(reading).report.lesions[0]
    drag_box(reading, "Red", reading._at("Red", lesion.id), 12)
    assert not reading.panel.views.box.isArmed
    reading.wait(lambda: case_of(reading).edits)
    assert case_of(reading).report.total.agatston < before


def test_a_case_that_is_opened_in_the_layout_is_zoomed_too_and_without_one_the_layout_can_be_left(reading):
    before = layout_shown()
    reading.key("L")
    zoomed = view("Red").mrmlSliceNode().GetFieldOfView()[:2]
    folder = reading.panel.reading.folder
    reading.panel.closeCase()
    reading.open_case(folder)
    assert view("Red").mrmlSliceNode().GetFieldOfView()[:2] == pytest.approx(zoomed)
    reading.panel.closeCase()
    reading.panel.views.toggleRoom()
    assert layout_shown() == before
