"""Strokes of Slicer's own Segment Editor, and what becomes of them in the case."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from installed import need
from plain_scoring import plain_score

slicer = need("slicer", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")
vtk = need("vtk", "pip install -r HeartLensCAC/Resources/requirements-slicer.txt")

from heartlens.case.case import Case  # noqa: E402
from heartlens.case.correction import assign_at  # noqa: E402
from heartlens.case.folder import load_case, save_case  # noqa: E402
from heartlens.core.errors import InputRefused  # noqa: E402
from heartlens.core.lesions import Artery  # noqa: E402
from heartlens.scene import Watch, index_of, labels_of, read_segmentation, show_case, update_lesions  # noqa: E402
from heartlens.scene.geometry import array_of  # noqa: E402
from heartlens.scene.segmentation import BINARY  # noqa: E402


class Editor:
    """vtkSlicerSegmentEditorLogic, set as the module sets it: voxels from 130 HU, overwrite all segments."""

    def __init__(self, scene, nodes) -> None:
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(scene)
        self.parameters = scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.history = slicer.vtkSegmentationHistory()
        self.logic.SetSegmentEditorNode(self.parameters)
        self.logic.SetSegmentationHistory(self.history)
        self.logic.SetSegmentationNode(nodes.segmentation)
        self.logic.SetSourceVolumeNode(nodes.volume)
        self.parameters.SetOverwriteMode(self.parameters.OverwriteAllSegments)
        self.parameters.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
        self.parameters.SourceVolumeIntensityMaskOn()
        self.parameters.SetSourceVolumeIntensityMaskRange(130, 3000)
        self.segmentation = nodes.segmentation

    def stroke(self, segment: str, box, *, erase: bool = False) -> None:
        """Paint or erase a block, given as slices of [k, j, i]."""
        self.parameters.SetSelectedSegmentID(segment)
        self.logic.UpdateReferenceGeometryImage()
        self.logic.ResetModifierLabelmapToDefault()
        self.logic.UpdateAlignedSourceVolume()
        self.logic.UpdateMaskLabelmap()
        modifier = self.logic.GetModifierLabelmap()
        array_of(modifier)[box] = 1
        self.logic.SaveStateForUndo()
        mode = self.logic.ModificationModeRemove if erase else self.logic.ModificationModeAdd
        self.logic.ModifySegmentByLabelmap(self.segmentation, segment, modifier, mode, False, False)


@pytest.fixture
def shown(scene, make_case):
    """(scene, nodes, case)"""
    case = make_case(from_dicom=False)
    return scene, show_case(scene, case), case


@pytest.fixture
def editor(shown) -> Editor:
    return Editor(shown[0], shown[1])


def kinds(case: Case) -> list[str]:
    return [edit.kind for edit in case.edits]


def score_again(nodes, case: Case) -> dict[str, float]:
    """Agatston per artery of the voxels on the screen, by the plain implementation that shares no code with ours."""
    codes = labels_of(nodes.segmentation, case.ct)
    scores, _, _, _ = plain_score(
        case.ct.hu.tolist(), codes.tolist(), pixel_area=case.ct.pixel_area_mm2, increment=case.ct.increment_mm,
        edges=case.protocol.edges_hu, min_area=case.protocol.minimum_area_mm2, min_pixels=1,
        connectivity=case.protocol.connectivity, k_factor=case.ct.increment_mm / 3, mass_factor=0.0008,
    )  # fmt: skip
    return {artery.name: scores[int(artery)]["agatston"] for artery in Artery}


def reported(case: Case) -> dict[str, float]:
    return {artery.name: case.report.arteries[artery].agatston for artery in Artery}


def commit(scene, nodes, case: Case) -> Case:
    after = read_segmentation(scene, nodes, case, who="reader", when="2026-01-01T00:00:00Z")
    update_lesions(scene, nodes, after)
    return after


def test_a_block_painted_under_the_mask_takes_exactly_the_voxels_that_reach_the_threshold(shown, editor):
    scene, nodes, case = shown
    editor.stroke("LM", np.s_[7:10, 24:36, 4:20])
    painted = labels_of(nodes.segmentation, case.ct) == Artery.LM
    assert np.array_equal(np.argwhere(painted), np.argwhere(case.ct.hu == 150))
    after = commit(scene, nodes, case)
    assert kinds(after) == ["paint"]
    assert (after.edits[0].artery, after.edits[0].who) == (Artery.LM, "reader")
    assert after.report.arteries[Artery.LM].agatston == 16 * 0.5 * 0.625 * 2.5 / 3
    assert reported(after) == pytest.approx(score_again(nodes, after))


def test_without_the_mask_the_case_still_takes_only_calcium_and_the_screen_follows(shown, editor):
    scene, nodes, case = shown
    editor.parameters.SourceVolumeIntensityMaskOff()
    editor.stroke("LM", np.s_[7:10, 24:36, 4:20])
    assert (labels_of(nodes.segmentation, case.ct) == Artery.LM).sum() == 3 * 12 * 16
    after = commit(scene, nodes, case)
    assert (labels_of(nodes.segmentation, case.ct) == Artery.LM).sum() == 16
    assert np.array_equal(labels_of(nodes.segmentation, case.ct), after.scored_codes)


def test_a_journey_of_strokes_clicks_and_undo_gives_the_score_of_the_voxels_on_the_screen(shown, editor, tmp_path):
    scene, nodes, case = shown
    start = case
    for artery in (Artery.LCX, Artery.LM):  # two clicks on the LAD lesion
        case = assign_at(case, index_of(case.ct, (55.0, 174.0, -693.0)), artery)
        update_lesions(scene, nodes, case)
    editor.stroke("LCX", np.s_[7:10, 24:36, 4:20])
    case = commit(scene, nodes, case)
    editor.stroke("RCA", np.s_[6, 20:22, 20:24], erase=True)
    case = commit(scene, nodes, case)
    assert kinds(case) == ["reassign", "reassign", "paint", "erase"]
    pixel, k = 0.5 * 0.625, 2.5 / 3
    assert reported(case) == pytest.approx(
        {"LM": 128 * pixel * k, "LAD": 0, "LCX": 16 * pixel * k, "RCA": 32 * pixel * k, "OTHER": 128 * pixel * k}
        | {"UNASSIGNED": 0}
    )
    assert reported(case) == pytest.approx(score_again(nodes, case))
    case = case.undo()
    update_lesions(scene, nodes, case)
    assert case.report.arteries[Artery.RCA].agatston == start.report.arteries[Artery.RCA].agatston
    assert reported(case) == pytest.approx(score_again(nodes, case))
    save_case(case, tmp_path / "case")
    opened = load_case(tmp_path / "case")
    assert opened.report == case.report
    nodes_again = show_case(scene, opened)
    assert np.array_equal(labels_of(nodes_again.segmentation, case.ct), labels_of(nodes.segmentation, case.ct))
    assert read_segmentation(scene, nodes_again, opened) is opened


@pytest.mark.parametrize("seed", range(4))
def test_after_any_strokes_the_totals_are_those_of_the_voxels_on_the_screen(scene, make_case, seed):
    rng = np.random.default_rng(seed)
    hu = make_case().ct.hu.copy()
    specks = rng.integers((0, 4, 4), (12, 36, 44), (400, 3))
    hu[tuple(specks.T)] = rng.integers(100, 500, 400)
    case = make_case(hu=hu)
    nodes = show_case(scene, case)
    editor = Editor(scene, nodes)
    for _ in range(6):
        k, j, i = rng.integers((0, 0, 0), (11, 36, 44))
        depth, height, width = rng.integers(1, (4, 14, 18))
        if rng.random() < 0.3:
            editor.parameters.SetSourceVolumeIntensityMask(bool(rng.integers(2)))
        artery = Artery(int(rng.integers(1, 7)))
        editor.stroke(artery.name, np.s_[k : k + depth, j : j + height, i : i + width], erase=bool(rng.random() < 0.4))
        before, case = case, commit(scene, nodes, case)
        assert reported(case) == pytest.approx(score_again(nodes, case))
        assert np.array_equal(labels_of(nodes.segmentation, case.ct), case.scored_codes)
        if case is not before:
            assert case.undo().report == before.report


def test_painting_over_a_whole_lesion_of_another_artery_reassigns_it(shown, editor):
    scene, nodes, case = shown
    editor.stroke("LCX", np.s_[5:8, 18:26, 18:26])
    after = commit(scene, nodes, case)
    assert kinds(after) == ["reassign"]
    assert np.array_equal(after.lesions.labels, case.lesions.labels)


def test_a_cut_through_a_lesion_makes_two_that_can_be_clicked_apart(shown, editor):
    scene, nodes, case = shown
    editor.stroke("LAD", np.s_[2:4, 8:12, 11:12], erase=True)
    cut = commit(scene, nodes, case)
    assert [row.artery for row in cut.report.lesions].count(Artery.LAD) == 2
    moved = assign_at(cut, (2, 9, 14), Artery.OTHER)
    update_lesions(scene, nodes, moved)
    assert reported(moved) == pytest.approx(score_again(nodes, moved))
    assert moved.report.arteries[Artery.LAD].agatston == 24 * 2 * 0.5 * 0.625 * 2.5 / 3


def test_slicers_own_undo_is_read_as_one_more_edit(shown, editor):
    scene, nodes, case = shown
    editor.stroke("RCA", np.s_[6, 20:22, 20:24], erase=True)
    erased = read_segmentation(scene, nodes, case)
    editor.logic.Undo()
    back = read_segmentation(scene, nodes, erased)
    assert back.report.total == case.report.total
    assert np.array_equal(labels_of(nodes.segmentation, case.ct), case.scored_codes)
    assert read_segmentation(scene, nodes, case) is case


def test_reading_what_was_shown_gives_the_same_case(shown):
    scene, nodes, case = shown
    assert read_segmentation(scene, nodes, case) is case
    update_lesions(scene, nodes, case)
    assert read_segmentation(scene, nodes, case) is case


# Segments that the reader adds, renames and removes


def add_segment(nodes, name: str, voxels, *, affine=None):
    """A segment in a layer of its own, with the voxels given as [k, j, i] slices."""
    image = slicer.vtkOrientedImageData()
    matrix = vtk.vtkMatrix4x4()
    nodes.volume.GetIJKToRASMatrix(matrix)
    if affine is not None:
        affine(matrix)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    image.SetDimensions(nodes.volume.GetImageData().GetDimensions())
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    array_of(image)[:] = 0
    array_of(image)[voxels] = 1
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.AddRepresentation(BINARY, image)
    nodes.segmentation.GetSegmentation().AddSegment(segment)
    return segment


def test_a_segment_that_names_an_artery_joins_it(shown):
    scene, nodes, case = shown
    add_segment(nodes, "Left main", np.s_[8, 26:34, 6:14])
    after = commit(scene, nodes, case)
    assert after.report.arteries[Artery.LM].lesions == 1
    assert list(nodes.segmentation.GetSegmentation().GetSegmentIDs()) == [artery.name for artery in Artery]
    assert nodes.segmentation.GetSegmentation().GetNumberOfLayers() == 1


def test_a_removed_segment_is_an_erased_artery_and_comes_back_empty(shown):
    scene, nodes, case = shown
    nodes.segmentation.GetSegmentation().RemoveSegment("RCA")
    after = commit(scene, nodes, case)
    assert kinds(after) == ["remove"]
    assert nodes.segmentation.GetSegmentation().GetSegment("RCA") is not None
    assert after.undo().report == case.report


def refusal(name: str, change: Callable, text: str):
    return pytest.param(change, text, id=name)


def other_spacing(matrix) -> None:
    matrix.SetElement(0, 0, matrix.GetElement(0, 0) * 1.25)


def half_a_voxel(matrix) -> None:
    matrix.SetElement(0, 3, matrix.GetElement(0, 3) + 0.25)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        refusal("two names", lambda scene, nodes: add_segment(nodes, "RCA 2 LCX", np.s_[6, 20:24, 20:24]), "labels: "),
        refusal("two arteries", lambda scene, nodes: add_segment(nodes, "LCX", np.s_[6, 20:24, 20:24]),
                r"labels: .*found 16 in two \(RCA and LCX"),
        refusal("no artery", lambda scene, nodes: add_segment(nodes, "Segment_1", np.s_[8, 28:32, 8:12]),
                "labels: .*'Segment_1'"),
        refusal("renamed", lambda scene, nodes: nodes.segmentation.GetSegmentation().GetSegment("LAD").SetName("RCA"),
                "labels: .*named RCA"),
        refusal("spacing", lambda scene, nodes: add_segment(nodes, "LM", np.s_[8, 28:32, 8:12], affine=other_spacing),
                "grid: the segmentation: expected the grid of the CT"),
        refusal("shift", lambda scene, nodes: add_segment(nodes, "LM", np.s_[8, 28:32, 8:12], affine=half_a_voxel),
                "grid: "),
    ],
)  # fmt: skip
def test_a_segmentation_that_cannot_be_read_is_refused_and_stays(shown, state_of, change, text):
    scene, nodes, case = shown
    change(scene, nodes)
    before = state_of(scene)
    with pytest.raises(InputRefused, match=text):
        read_segmentation(scene, nodes, case)
    assert state_of(scene) == before


@pytest.mark.parametrize("name", ["volume", "segmentation"])
def test_a_transform_on_a_node_is_refused_with_the_way_out(shown, state_of, name):
    scene, nodes, case = shown
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    getattr(nodes, name).SetAndObserveTransformNodeID(transform.GetID())
    before = state_of(scene)
    for call in (read_segmentation, update_lesions):
        with pytest.raises(InputRefused, match=rf"input: the {name}: expected no transform.*Harden transform"):
            call(scene, nodes, case)
    assert state_of(scene) == before


def test_a_segmentation_deleted_while_the_reader_works_is_refused(shown):
    scene, nodes, case = shown
    scene.RemoveNode(nodes.segmentation)
    with pytest.raises(InputRefused, match=r"the segmentation of this case was deleted.*its edits are not lost"):
        read_segmentation(scene, nodes, case)


def test_voxels_outside_the_ct_are_refused(shown):
    scene, nodes, case = shown
    image = nodes.segmentation.GetSegmentation().GetSegment("RCA").GetRepresentation(BINARY)
    extent = list(image.GetExtent())
    image.SetExtent(extent[0] + 12, extent[1] + 12, *extent[2:])
    with pytest.raises(InputRefused, match=r"grid: .*found [0-9]+ outside"):
        read_segmentation(scene, nodes, case)


# Being told


def test_a_watch_tells_of_strokes_and_deletions_until_it_is_closed(shown, editor):
    scene, nodes, _ = shown
    events: list[str] = []
    inside = nodes.segmentation.GetSegmentation()
    watch = Watch(scene, nodes, lambda: events.append("edited"), events.append)
    editor.stroke("LM", np.s_[7:10, 24:36, 4:20])
    assert events
    assert set(events) == {"edited"}
    events.clear()
    editor.logic.Undo()
    assert set(events) == {"edited"}
    events.clear()
    scene.RemoveNode(nodes.lesion_table)
    scene.RemoveNode(nodes.volume)
    assert events == ["lesion_table", "volume"]
    watch.close()
    watch.close()
    events.clear()
    inside.GetSegment("LAD").GetRepresentation(BINARY).Modified()
    scene.RemoveNode(nodes.segmentation)
    assert events == []


def test_closing_the_scene_tells_and_a_closed_watch_is_silent(shown):
    scene, nodes, _ = shown
    events: list[str] = []
    watch = Watch(scene, nodes, lambda: None, events.append)
    scene.Clear(False)
    assert "segmentation" in events
    watch.close()
    events.clear()
    scene.AddNewNodeByClass("vtkMRMLTableNode")
    scene.Clear(False)
    assert events == []
